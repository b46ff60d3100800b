"""Figures of what lives in the drawn world: animals and plants, varied from scene to scene."""

from __future__ import annotations

import math
from random import Random

from demo.figure import Figure
from demo.shapes import arc, oval, smooth


def dog(figure: Figure, rng: Random) -> None:
    """From the side: a long body on four legs, a snout, hanging ears, a tail that is up."""
    leg = rng.uniform(0.2, 0.27)
    for x in (-0.3, -0.17, 0.1, 0.23):
        figure.limb([(x, 0.1), (x + rng.uniform(-0.03, 0.03), 0.17 + leg)], 0.095)
    lift = rng.uniform(0.12, 0.24)
    tail = [(-0.32, 0), (-0.44, -0.08), (-0.46 + rng.uniform(-0.03, 0.08), -0.1 - lift)]
    figure.limb(smooth(tail, closed=False), 0.07)
    figure.solid(oval(-0.04, 0.07, 0.37, 0.19))
    figure.solid(smooth([(0.1, 0.1), (0.16, -0.3), (0.36, -0.3), (0.34, 0.12)]))
    figure.solid(oval(0.28, -0.27, 0.2, 0.185))
    snout = rng.uniform(0.1, 0.15)
    figure.solid(oval(0.42 + snout / 3, -0.2, snout, 0.095))
    figure.mark(oval(0.42 + snout * 1.2, -0.24, 0.045, 0.04, count=12), "night")
    figure.line(arc(0.43, -0.2, 0.09, 0.06, 20, 110, 6), 0.02)
    figure.eye(0.33, -0.31)
    droop = rng.uniform(0.14, 0.24)
    ear = [(0.1, -0.4), (0.2, -0.41), (0.21, -0.25), (0.13, -0.28 + droop), (0.04, -0.24)]
    figure.mark(smooth(ear), "deep", rim=True)
    if rng.random() < 0.6:
        figure.line([(0.13, 0.0), (0.22, 0.05), (0.35, 0.02)], 0.045, "metal")


def cat(figure: Figure, rng: Random) -> None:
    """Sitting, from the front: pointed ears, whiskers, a tail around the side."""
    curl = rng.uniform(-0.12, 0.1)
    tail = [(0.15, 0.42), (0.38, 0.4), (0.44, 0.2), (0.36, 0.04), (0.42, -0.06 + curl)]
    figure.limb(smooth(tail, closed=False), 0.085)
    plump = rng.uniform(0.22, 0.28)
    figure.solid(smooth([(0, -0.12), (plump, 0.2), (plump, 0.46), (-plump, 0.46), (-plump, 0.2)]))
    tip, lean = rng.uniform(0.5, 0.58), rng.uniform(0, 0.05)
    for way in (-1, 1):
        ear = [(0.26 * way, -0.2), ((0.25 + lean) * way, -tip), (0.04 * way, -0.36)]
        figure.solid(ear)
        inner = [(0.2 * way, -0.33), ((0.22 + lean) * way, 0.06 - tip), (0.1 * way, -0.36)]
        figure.mark(inner, "pale")
    figure.solid(oval(0, -0.2, 0.27, 0.215))
    for way in (-1, 1):
        figure.eye(0.11 * way - 0.01, -0.23, 0.05)
        for drop in (0, 0.05):
            figure.line([(0.13 * way, -0.13 + drop / 2), (0.32 * way, -0.15 + drop * 1.6)], 0.012)
        figure.line(arc(0.035 * way, -0.12, 0.035, 0.035, 0, 180, 6), 0.016)
        figure.line([(0.07 * way, 0.3), (0.07 * way, 0.47)], 0.018)
    figure.mark([(-0.032, -0.165), (0.032, -0.165), (0, -0.125)], "line")
    if rng.random() < 0.5:
        for y in (0.02, 0.09):
            figure.line(arc(0, y, 0.08, 0.04, 20, 160, 6), 0.02, "deep")


def bird(figure: Figure, rng: Random) -> None:
    """From the side: a round breast, a beak, a wing, a tail, two thin legs."""
    for x in (-0.02, 0.1):
        figure.limb([(x, 0.2), (x, 0.44), (x + 0.08, 0.45)], 0.034, "thread")
    spread = rng.uniform(0.04, 0.1)
    figure.solid(
        [(-0.22, -0.02), (-0.55, -0.06 - spread), (-0.5, 0.04), (-0.54, 0.13), (-0.2, 0.17)]
    )
    figure.solid([(0.33, -0.28), (0.55, -0.2 + rng.uniform(-0.03, 0.03)), (0.32, -0.13)], "horn")
    figure.solid(
        smooth(
            [
                (0.1, -0.38),
                (0.33, -0.34),
                (0.37, -0.12),
                (0.28, 0.14),
                (0.04, 0.27),
                (-0.25, 0.18),
                (-0.32, 0.02),
                (-0.12, -0.08),
                (0.0, -0.2),
            ]
        )
    )
    if rng.random() < 0.5:
        figure.solid(
            smooth([(0.12, -0.33), (0.08, -0.5), (0.18, -0.46), (0.26, -0.52), (0.27, -0.33)])
        )
    figure.eye(0.23, -0.22, 0.045)
    lift = rng.uniform(-0.12, 0.1)
    wing = [
        (0.12, 0.0),
        (0.06, 0.14),
        (-0.12, 0.14 + lift / 2),
        (-0.32, 0.06 + lift),
        (-0.08, -0.05),
    ]
    figure.mark(smooth(wing), "deep", rim=True)
    figure.line(arc(-0.06, 0.02, 0.1, 0.06, 20, 150, 6), 0.018)


def fish(figure: Figure, rng: Random) -> None:
    """From the side: an oval body, a forked tail, fins, scales."""
    tall, fork = rng.uniform(0.22, 0.3), rng.uniform(0.2, 0.28)
    figure.solid(smooth([(-0.22, 0), (-0.52, -fork), (-0.46, 0), (-0.52, fork)]))
    figure.solid(
        smooth(
            [(-0.14, -tall * 0.7), (-0.06, -tall - 0.15), (0.16, -tall - 0.08), (0.2, -tall * 0.7)]
        )
    )
    figure.solid(smooth([(-0.08, tall * 0.8), (-0.12, tall + 0.11), (0.06, tall * 0.9)]))
    figure.solid(oval(0.08, 0, 0.4, tall))
    figure.eye(0.32, -0.06, 0.055)
    figure.line(arc(0.12, 0, 0.1, tall * 0.72, -62, 62, 8), 0.022)
    figure.line(arc(0.46, 0.05, 0.08, 0.07, 100, 180, 5), 0.02)
    for x, y in ((0.06, -0.09), (0.06, 0.07), (-0.07, -0.01), (-0.19, -0.06), (-0.17, 0.09)):
        figure.line(arc(x, y, 0.05, 0.055, -70, 70, 5), 0.017, "deep")
    figure.mark(smooth([(0.1, 0.02), (-0.04, -0.02), (-0.06, 0.12)]), "deep", rim=True)


def tree(figure: Figure, rng: Random) -> None:
    """A crown (round, like a cloud, or the tiers of a fir) on a wooden trunk."""
    figure.limb([(0, 0.1), (0, 0.46)], 0.13, "wood")
    style = rng.randrange(3)
    if style == 0:
        for y, half in ((0.24, 0.36), (0.0, 0.3), (-0.22, 0.23)):
            figure.solid([(0, y - 0.36), (half, y), (-half, y)])
            figure.line([(-half * 0.55, y - 0.03), (half * 0.55, y - 0.03)], 0.022, "deep")
        return
    if style == 1:
        figure.solid(oval(0, -0.14, rng.uniform(0.3, 0.36), 0.4))
    else:
        for x, y, radius in (
            (-0.2, 0.02, 0.2),
            (0.2, 0.02, 0.2),
            (-0.14, -0.24, 0.2),
            (0.15, -0.23, 0.2),
            (0, -0.1, 0.28),
        ):
            figure.solid(oval(x, y, radius, radius, count=18))
    for _ in range(5):
        x, y = rng.uniform(-0.18, 0.18), rng.uniform(-0.34, 0.04)
        figure.line(arc(x, y, 0.05, 0.04, 20, 160, 5), 0.024, "deep")


def flower(figure: Figure, rng: Random) -> None:
    """Petals around a pale heart, on a stem with two leaves."""
    stem = [(0, -0.1), (rng.uniform(-0.05, 0.05), 0.2), (0, 0.53)]
    figure.limb(smooth(stem, closed=False), 0.045, "leaf")
    for way in (-1, 1):
        y = rng.uniform(0.32, 0.44)
        figure.solid(oval(0.13 * way, y - 0.03, 0.13, 0.05, -0.5 * way, 14), "leaf")
    count, turn = rng.randint(5, 8), rng.uniform(0, 1)
    petal = 0.52 / count + 0.025
    spots = [
        (
            0.2 * math.cos(turn + math.tau * n / count),
            0.2 * math.sin(turn + math.tau * n / count) - 0.2,
        )
        for n in range(count)
    ]
    for n, (x, y) in enumerate(spots):
        figure.solid(oval(x, y, 0.17, petal * 1.15, turn + math.tau * n / count, 16))
    for x, y in spots:
        figure.line(
            [(x * 0.62, (y + 0.2) * 0.62 - 0.2), (x * 1.15, (y + 0.2) * 1.15 - 0.2)], 0.018, "deep"
        )
    figure.mark(oval(0, -0.2, 0.1, 0.1, count=16), "cream", True)


def mushroom(figure: Figure, rng: Random) -> None:
    """A round cap with pale spots on a thick cream stem."""
    high, stout = rng.uniform(0.4, 0.5), rng.uniform(0.13, 0.18)
    figure.solid(
        smooth([(-stout, 0.0), (stout, 0.0), (stout * 1.25, 0.44), (-stout * 1.25, 0.44)]), "cream"
    )
    cap = [*arc(0, 0.06, 0.5, high, 180, 360, 18), *arc(0, 0.06, 0.5, 0.09, 10, 170, 10)]
    figure.solid(cap)
    figure.line(arc(0, 0.03, 0.44, 0.08, 20, 160, 8), 0.018, "deep")
    for x, y, radius in (
        (-0.27, -0.06, 0.06),
        (0.02, -0.2, 0.075),
        (0.28, -0.07, 0.055),
        (-0.05, -0.01, 0.04),
    ):
        radius *= rng.uniform(0.75, 1.1)
        figure.mark(oval(x + rng.uniform(-0.04, 0.04), y, radius, radius * 0.85, count=14), "spot")
    if rng.random() < 0.4:
        figure.face(0, 0.24)
