"""Figures of what is made in the drawn world, and the list of all sixteen kinds of things."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from demo import animals_and_plants
from demo.figure import Figure
from demo.shapes import arc, box, oval, ring, round_box, smooth


def _wheel(figure: Figure, x: float, y: float, radius: float) -> None:
    figure.solid(oval(x, y, radius, radius, count=18), "tyre")
    figure.mark(oval(x, y, radius * 0.5, radius * 0.5, count=12), "metal")


def _car(figure: Figure, rng: Random) -> None:
    """From the side: low, a rounded cabin in the middle, two wheels."""
    roof, back = rng.uniform(0.28, 0.34), rng.uniform(-0.32, -0.26)
    figure.solid(
        smooth([(back - 0.04, -0.02), (back + 0.06, -roof), (0.1, -roof), (0.28, -0.02)], steps=5)
    )
    figure.solid(round_box(-0.52, -0.08, 0.52, 0.2, rng.uniform(0.08, 0.13)))
    for x in (-0.29, 0.29):
        _wheel(figure, x, 0.2, 0.125)
    glass = -roof + 0.07
    figure.mark(
        [(back + 0.03, -0.06), (back + 0.1, glass), (-0.06, glass), (-0.06, -0.06)], "glass", True
    )
    figure.mark([(0.0, -0.06), (0.0, glass), (0.1, glass), (0.2, -0.06)], "glass", True)
    figure.line([(-0.03, -0.01), (-0.03, 0.16)], 0.016)
    figure.line([(-0.13, 0.03), (-0.07, 0.03)], 0.022)
    figure.mark(oval(0.47, 0.0, 0.032, 0.045, count=12), "paper", rim=True)
    if rng.random() < 0.4:
        figure.line([(-0.49, 0.09), (-0.42, 0.09)], 0.03, "metal")


def _truck(figure: Figure, rng: Random) -> None:
    """From the side: a tall box behind, a cab in front, three wheels."""
    top, split = rng.uniform(0.36, 0.44), rng.uniform(0.1, 0.17)
    figure.solid(box(-0.54, -top, split, 0.2))
    hood = rng.uniform(0, 0.06)
    figure.solid(
        [
            (split, 0.2),
            (split, -0.2),
            (0.38, -0.2),
            (0.48, 0.0),
            (0.52 + hood, 0.02),
            (0.52 + hood, 0.2),
        ]
    )
    for x in (-0.38, -0.12, 0.36):
        _wheel(figure, x, 0.22, 0.11)
    figure.mark(
        [(split + 0.07, -0.02), (split + 0.07, -0.14), (0.35, -0.14), (0.41, -0.02)], "glass", True
    )
    figure.line([(split, -top), (split, 0.2)], 0.03)
    figure.line([(-0.54, 0.09), (split, 0.09)], 0.02)
    style = rng.randrange(3)
    if style == 0:
        for x in (-0.38, -0.22, -0.06):
            figure.line([(x, -top + 0.07), (x, 0.03)], 0.02, "deep")
    elif style == 1:
        figure.line([(-0.45, -top / 2), (split - 0.1, -top / 2)], 0.07, "pale")
    figure.mark(oval(0.49 + hood, 0.09, 0.03, 0.035, count=10), "paper", rim=True)


def _boat(figure: Figure, rng: Random) -> None:
    """A sailing boat: a bowl of a hull, a mast, two sails and a pennant."""
    mast, main, jib = rng.uniform(-0.06, 0.02), rng.uniform(0.3, 0.38), rng.uniform(0.22, 0.3)
    figure.limb([(mast, 0.2), (mast, -0.53)], 0.035, "wood")
    figure.solid(
        [(-0.48, 0.17), (0.52, 0.15), (0.4, 0.36), (0.34, 0.42), (-0.3, 0.42), (-0.38, 0.36)]
    )
    figure.solid(
        [
            *smooth([(mast + 0.05, -0.46), (mast + 0.2, -0.24), (mast + 0.05 + main, 0.08)], False),
            (mast + 0.05, 0.08),
        ]
    )
    figure.solid([(mast - 0.05, -0.36), (mast - 0.05, 0.08), (mast - 0.05 - jib, 0.08)])
    figure.line([(-0.42, 0.26), (0.45, 0.25)], 0.035, "pale")
    if rng.random() < 0.6:
        for x in (-0.18, 0.02, 0.22):
            figure.mark(oval(x, 0.335, 0.03, 0.03, count=10), "glass", rim=True)
    figure.line([(mast + 0.05, -0.12), (mast + 0.19, -0.12)], 0.018, "deep")


def _house(figure: Figure, rng: Random) -> None:
    """From the front: walls, a gabled roof, a chimney, a door, windows."""
    wide, peak = rng.uniform(0.34, 0.4), rng.uniform(0.44, 0.54)
    chimney = rng.choice((-0.22, 0.22))
    figure.solid(box(chimney - 0.055, -peak + 0.02, chimney + 0.055, -0.1))
    figure.solid(box(-wide, -0.1, wide, 0.46))
    roof = [(-wide - 0.1, -0.06), (0, -peak), (wide + 0.1, -0.06)]
    figure.solid(roof)
    figure.mark(roof, "deep")
    figure.line([(-wide - 0.1, -0.06), (wide + 0.1, -0.06)], 0.03)
    door = rng.choice((-0.16, 0, 0.16))
    figure.mark(
        [*arc(door, 0.24, 0.085, 0.08, 180, 360, 8), (door + 0.085, 0.45), (door - 0.085, 0.45)],
        "wood",
        True,
    )
    for x in (-0.22, 0, 0.22):
        if abs(x - door) > 0.2 and abs(x) < wide - 0.1:
            figure.mark(box(x - 0.075, 0.08, x + 0.075, 0.24), "glass", True)
            figure.line([(x, 0.08), (x, 0.24)], 0.016)
            figure.line([(x - 0.075, 0.16), (x + 0.075, 0.16)], 0.016)
    figure.mark(oval(0, -0.22, 0.055, 0.055, count=12), "glass", True)


def _star(figure: Figure, rng: Random) -> None:
    """Five points, sharp or plump, sometimes with a face."""
    inner = rng.uniform(0.22, 0.29)
    figure.solid(ring(0, 0, 0.54, inner, 5))
    figure.line([(-0.05, -0.34), (-0.1, -0.2), (-0.18, -0.15)], 0.04, "pale")
    if rng.random() < 0.6:
        figure.face(0, 0.0)


def _heart(figure: Figure, rng: Random) -> None:
    """Two lobes and a tip, sometimes with a face."""
    wide = rng.uniform(0.028, 0.032)
    points = []
    for index in range(48):
        angle = math.tau * index / 48
        y = 13 * math.cos(angle) - 5 * math.cos(2 * angle) - 2 * math.cos(3 * angle)
        points.append((wide * 16 * math.sin(angle) ** 3, -0.03 * (y - math.cos(4 * angle))))
    figure.solid(points)
    figure.line(arc(-0.22, -0.14, 0.14, 0.13, 165, 265, 7), 0.045, "pale")
    if rng.random() < 0.5:
        figure.face(0, -0.04)


def _umbrella(figure: Figure, rng: Random) -> None:
    """Open: a dome with a scalloped edge, ribs, a long handle with a hook."""
    hook = rng.choice((-1, 1))
    stick = [
        (0, -0.1),
        (0, 0.42),
        *arc(hook * 0.08, 0.42, 0.08, 0.09, 90 + 90 * hook, 90 - 90 * hook, 8),
    ]
    figure.limb(stick, 0.045, "wood")
    figure.limb([(0, -0.4), (0, -0.5)], 0.04, "wood")
    panes = rng.choice((3, 4, 5))
    high, half = rng.uniform(0.38, 0.46), 0.52 / panes
    canopy = list(arc(0, 0.02, 0.52, high, 180, 360, 18))
    for n in range(panes):
        canopy += arc(0.52 - half * (2 * n + 1), 0.02, half, 0.07, 0, -180, 6)[1:]
    figure.solid(canopy)
    for n in range(1, panes):
        x = -0.52 + 2 * half * n
        figure.line(smooth([(0, 0.02 - high), (x * 0.7, -0.2), (x, 0.01)], closed=False), 0.018)


def _balloon(figure: Figure, rng: Random) -> None:
    """An egg with the thick end up, a knot, a waving string, a highlight."""
    wide = rng.uniform(0.31, 0.36)
    sway = rng.choice((-1, 1)) * rng.uniform(0.04, 0.1)
    string = [(0, 0.2), (sway, 0.29), (-sway / 2, 0.39), (sway, 0.5)]
    figure.limb(smooth(string, closed=False), 0.028, "thread")
    figure.solid([(0, 0.1), (0.065, 0.24), (-0.065, 0.24)])
    figure.solid(
        smooth(
            [
                (0, -0.54),
                (wide * 0.75, -0.46),
                (wide, -0.22),
                (wide * 0.62, 0.05),
                (0, 0.18),
                (-wide * 0.62, 0.05),
                (-wide, -0.22),
                (-wide * 0.75, -0.46),
            ],
            steps=3,
        )
    )
    figure.line(arc(0, -0.22, wide * 0.62, 0.2, 185, 250, 7), 0.05, "pale")
    figure.line(arc(0, 0.16, 0.05, 0.02, 0, 180, 4), 0.016)


def _cup(figure: Figure, rng: Random) -> None:
    """A mug: straight walls, an open rim, a handle, sometimes a stripe."""
    wide, taper = rng.uniform(0.28, 0.33), rng.uniform(0.0, 0.07)
    handle = rng.uniform(0.13, 0.17)
    figure.limb(arc(wide - 0.03, 0.06, handle + 0.04, handle, -80, 80, 10), 0.075)
    low = wide - taper
    figure.solid(
        [
            (-wide, -0.26),
            (wide, -0.26),
            (low, 0.3),
            *arc(0, 0.3, low, 0.09, 10, 170, 10),
            (-low, 0.3),
        ]
    )
    figure.solid(oval(0, -0.26, wide, 0.085))
    figure.mark(oval(0, -0.26, wide - 0.02, 0.075), "pale", True)
    figure.mark(oval(0, -0.24, wide - 0.07, 0.045), "wood")
    style = rng.randrange(3)
    if style == 0:
        figure.line(arc(0, 0.04, wide - taper / 2 - 0.02, 0.08, 8, 172, 10), 0.06, "pale")
    elif style == 1:
        figure.face(0, 0.04)


FIGURES: dict[str, Callable[[Figure, Random], None]] = {
    "dog": animals_and_plants.dog,
    "cat": animals_and_plants.cat,
    "bird": animals_and_plants.bird,
    "fish": animals_and_plants.fish,
    "car": _car,
    "truck": _truck,
    "boat": _boat,
    "house": _house,
    "tree": animals_and_plants.tree,
    "flower": animals_and_plants.flower,
    "star": _star,
    "heart": _heart,
    "umbrella": _umbrella,
    "balloon": _balloon,
    "cup": _cup,
    "mushroom": animals_and_plants.mushroom,
}
