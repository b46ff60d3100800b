"""The eight grounds of the drawn world, in soft colours with a few decorations; no things here."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from demo.shapes import Canvas, Colour, arc, box, ring

_Decorate = Callable[[Canvas, Random], None]


def _hill(canvas: Canvas, rng: Random, level: float, height: float, colour: Colour) -> None:
    """Fill everything below a gently waving line around y = `level`."""
    phase, waves = rng.uniform(0, math.tau), rng.uniform(0.6, 1.4)
    crest = [
        (x / 10, level + height * math.sin(phase + waves * math.tau * x / 10)) for x in range(11)
    ]
    canvas.fill([*crest, (1, 1.01), (0, 1.01)], colour)


def _cloud(canvas: Canvas, x: float, y: float, size: float, colour: Colour) -> None:
    for dx, dy, radius in ((-1, 0.2, 0.6), (0, -0.2, 0.8), (1, 0.2, 0.6)):
        canvas.dot(x + dx * size, y + dy * size, radius * size, colour)
    canvas.box(x - size, y + 0.3 * size, x + size, y + 0.8 * size, colour)


def _grass(canvas: Canvas, rng: Random) -> None:
    for _ in range(rng.randint(1, 2)):
        spot = rng.uniform(0.1, 0.9), rng.uniform(0.08, 0.25)
        _cloud(canvas, *spot, rng.uniform(0.05, 0.08), (246, 249, 248))
    level = rng.uniform(0.45, 0.62)
    _hill(canvas, rng, level, 0.04, (206, 227, 196))
    _hill(canvas, rng, level + 0.14, 0.03, (190, 217, 180))
    for _ in range(14):
        x, y = rng.random(), rng.uniform(level + 0.1, 1)
        for lean in (-0.016, 0, 0.016):
            canvas.stroke([(x, y), (x + lean, y - 0.035)], 0.008, (146, 184, 140))
    for _ in range(5):
        x, y = rng.random(), rng.uniform(level + 0.15, 1)
        for dx, dy in ((-0.011, 0), (0.011, 0), (0, -0.011), (0, 0.011)):
            canvas.dot(x + dx, y + dy, 0.009, (250, 250, 244))
        canvas.dot(x, y, 0.007, (234, 214, 150))


def _snow(canvas: Canvas, rng: Random) -> None:
    level = rng.uniform(0.5, 0.68)
    for _ in range(rng.randint(2, 4)):
        x, size = rng.random(), rng.uniform(0.07, 0.11)
        base = level + 0.05
        for tier in range(3):
            y, width = base - tier * size * 0.7, size * (0.75 - 0.18 * tier)
            tip = (x, y - size * 1.2)
            canvas.fill([tip, (x + width, y), (x - width, y)], (160, 184, 188))
            canvas.fill(
                [tip, (x + width * 0.4, y - size * 0.7), (x - width * 0.4, y - size * 0.7)],
                (232, 239, 244),
            )
    _hill(canvas, rng, level, 0.03, (220, 230, 240))
    _hill(canvas, rng, level + 0.16, 0.03, (229, 237, 245))
    for _ in range(34):
        canvas.dot(rng.random(), rng.random(), rng.uniform(0.006, 0.013), (252, 253, 255))


def _night(canvas: Canvas, rng: Random) -> None:
    x, y, size = rng.choice((0.14, 0.86)), rng.uniform(0.1, 0.18), rng.uniform(0.065, 0.085)
    canvas.dot(x, y, size * 1.35, (70, 74, 116))
    canvas.dot(x, y, size, (246, 238, 208))
    canvas.dot(x + size * 0.45, y - size * 0.2, size * 0.85, (66, 70, 112))
    for _ in range(22):
        canvas.dot(rng.random(), rng.uniform(0, 0.7), rng.uniform(0.003, 0.006), (224, 222, 214))
    for _ in range(6):
        spot = rng.random(), rng.uniform(0, 0.6)
        canvas.fill(ring(*spot, rng.uniform(0.018, 0.03), 0.007, 4), (246, 238, 208))
    level = rng.uniform(0.68, 0.8)
    _hill(canvas, rng, level, 0.04, (58, 66, 94))
    _hill(canvas, rng, level + 0.1, 0.03, (48, 56, 80))


def _beach(canvas: Canvas, rng: Random) -> None:
    x, y = rng.choice((0.15, 0.85)), rng.uniform(0.1, 0.16)
    canvas.dot(x, y, 0.085, (251, 246, 226))
    canvas.dot(x, y, 0.06, (248, 234, 190))
    level = rng.uniform(0.36, 0.46)
    canvas.box(0, level, 1, 1, (172, 208, 220))
    for _ in range(6):
        wx, wy = rng.random(), rng.uniform(level + 0.02, level + 0.14)
        canvas.stroke([(wx, wy), (wx + 0.07, wy)], 0.008, (214, 234, 240))
    _hill(canvas, rng, level + 0.17, 0.02, (240, 246, 244))
    _hill(canvas, rng, level + 0.2, 0.02, (238, 226, 200))
    for _ in range(4):
        spot, turn = (rng.random(), rng.uniform(level + 0.3, 0.97)), rng.uniform(0, 6)
        canvas.fill(ring(*spot, 0.03, 0.013, 5, turn), (220, 196, 176))
    for _ in range(18):
        canvas.dot(rng.random(), rng.uniform(level + 0.27, 1), 0.005, (214, 200, 172))


def _sea(canvas: Canvas, rng: Random) -> None:
    _cloud(canvas, rng.uniform(0.1, 0.9), 0.08, 0.05, (248, 250, 251))
    level = rng.uniform(0.18, 0.28)
    for row in range(6):
        y, shift = level + row * 0.15, rng.uniform(-0.15, 0)
        shade = (160 - 7 * row, 199 - 7 * row, 213 - 5 * row)
        crest = [(shift, y)]
        for bump in range(8):
            crest += arc(shift + 0.075 + bump * 0.15, y, 0.075, 0.035, 180, 360, 6)[1:]
        canvas.fill([*crest, (1.1, 1.01), (-0.2, 1.01)], shade)
        canvas.stroke(crest, 0.008, (206, 228, 235))


def _desert(canvas: Canvas, rng: Random) -> None:
    canvas.dot(rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.18), 0.07, (253, 246, 226))
    level = rng.uniform(0.5, 0.64)
    _hill(canvas, rng, level - 0.03, 0.07, (236, 215, 188))
    for _ in range(rng.randint(2, 3)):
        x, size = rng.choice((rng.uniform(0.04, 0.24), rng.uniform(0.76, 0.96))), 0.05
        y, green = level + rng.uniform(0.05, 0.1), (152, 176, 150)
        canvas.stroke([(x, y), (x, y - 4.4 * size)], 0.042, green)
        for way, low in ((-1, 1.6), (1, 2.3)):
            elbow = (x + way * size * 1.1, y - low * size)
            top = (elbow[0], elbow[1] - size * 1.2)
            canvas.stroke([(x, y - low * size), elbow, top], 0.028, green)
    _hill(canvas, rng, level + 0.1, 0.04, (229, 205, 174))
    _hill(canvas, rng, level + 0.28, 0.04, (222, 196, 164))
    for _ in range(6):
        spot = rng.random(), rng.uniform(level + 0.2, 0.98)
        canvas.dot(*spot, rng.uniform(0.01, 0.02), (200, 180, 158), 0.009)


def _city(canvas: Canvas, rng: Random) -> None:
    level, left = rng.uniform(0.74, 0.84), -0.04
    while left < 1:
        width, top = rng.uniform(0.13, 0.22), rng.uniform(0.1, 0.42)
        wall = rng.choice(((190, 194, 208), (204, 204, 214), (198, 190, 198), (180, 188, 202)))
        canvas.box(left, top, left + width, level, wall)
        for row in range(int((level - top) / 0.085)):
            for column in range(int(width / 0.065)):
                x, y = left + 0.02 + column * 0.063, top + 0.03 + row * 0.085
                lit = (246, 236, 204) if rng.random() < 0.6 else (166, 174, 192)
                canvas.box(x, y, x + 0.03, y + 0.042, lit)
        left += width + 0.012
    canvas.box(0, level, 1, level + 0.03, (216, 214, 214))
    canvas.box(0, level + 0.03, 1, 1, (158, 160, 168))
    shift = rng.uniform(-0.15, 0)
    for dash in range(6):
        x, y = shift + dash * 0.22, (level + 1.02) / 2
        canvas.box(x, y, x + 0.12, y + 0.018, (236, 234, 226))


def _room(canvas: Canvas, rng: Random) -> None:
    level, shift = rng.uniform(0.68, 0.78), rng.uniform(0, 0.1)
    for stripe in range(10):
        x = shift + (stripe - 0.5) * 0.1
        canvas.box(x, 0, x + 0.04, level, (240, 229, 223))
    x, y = rng.choice((0.06, 0.66)), rng.uniform(0.05, 0.1)
    canvas.box(x, y, x + 0.28, y + 0.32, (250, 246, 240))
    canvas.box(x + 0.025, y + 0.025, x + 0.255, y + 0.295, (206, 224, 232))
    canvas.box(x + 0.13, y, x + 0.15, y + 0.32, (250, 246, 240))
    canvas.box(x, y + 0.15, x + 0.28, y + 0.17, (250, 246, 240))
    x = 0.72 if x < 0.5 else 0.08
    canvas.box(x, 0.1, x + 0.2, 0.27, (186, 164, 148))
    canvas.box(x + 0.022, 0.122, x + 0.178, 0.248, (244, 240, 230))
    canvas.fill([(x + 0.03, 0.24), (x + 0.09, 0.16), (x + 0.17, 0.24)], (196, 206, 198))
    canvas.box(0, level, 1, 1, (208, 190, 174))
    canvas.box(0, level - 0.025, 1, level, (250, 246, 240))
    for plank in range(1, 4):
        y = level + plank * 0.085
        canvas.fill(box(0, y, 1, y + 0.006), (192, 172, 156))
    canvas.dot(rng.uniform(0.35, 0.65), 0.95, 0.36, (222, 208, 204), 0.1)
    canvas.stroke(arc(0.5, 0.95, 0.3, 0.08, 180, 360), 0.008, (240, 232, 228))


# place: colour at the top, colour at the bottom, decorations
_GROUNDS: dict[str, tuple[Colour, Colour, _Decorate]] = {
    "grass": ((208, 228, 236), (240, 245, 236), _grass),
    "snow": ((190, 206, 222), (222, 231, 240), _snow),
    "night": ((40, 44, 82), (82, 82, 124), _night),
    "beach": ((206, 228, 240), (240, 244, 242), _beach),
    "sea": ((214, 230, 238), (226, 236, 240), _sea),
    "desert": ((248, 238, 222), (244, 226, 204), _desert),
    "city": ((214, 218, 230), (236, 232, 232), _city),
    "room": ((232, 219, 213), (232, 219, 213), _room),
}

PLACES: tuple[str, ...] = tuple(_GROUNDS)


def ground(place: str, side: int, rng: Random) -> Canvas:
    """A canvas of `side` pixels that shows the empty `place`."""
    top, bottom, decorate = _GROUNDS[place]
    canvas = Canvas(side, top, bottom)
    decorate(canvas, rng)
    return canvas
