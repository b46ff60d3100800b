"""A figure: the parts of one thing, posed and painted with outline and halo; knows no things."""

from __future__ import annotations

import math
from random import Random

from demo.shapes import Canvas, Colour, Points, arc, oval

_INK: Colour = (44, 36, 46)
_HALO: Colour = (255, 252, 242)
_INK_WIDTH, _HALO_WIDTH, _RIM_WIDTH = 0.026, 0.015, 0.014  # in sides of the picture
_MAX_TILT_DEGREES = 15

# What is not of the thing's own colour is small and muted, so that it does not compete with it.
_NEUTRALS: dict[str, Colour] = {
    "paper": (252, 251, 247),
    "night": (30, 26, 34),
    "glass": (214, 228, 234),
    "wood": (158, 132, 112),
    "leaf": (134, 162, 128),
    "cream": (240, 230, 210),
    "horn": (224, 182, 116),
    "thread": _INK,  # thin things that are a line themselves, so they get no outline
    "tyre": (70, 66, 74),
    "metal": (196, 198, 204),
}


def _toward(colour: Colour, other: Colour, share: float) -> Colour:
    """`colour` mixed with a `share` (0 to 1) of `other`."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(colour, other, strict=True))
    return red, green, blue


def tones(colour: Colour, rng: Random) -> dict[str, Colour]:
    """The colours of every tone for a thing of `colour`, its shade a little varied by `rng`."""
    shade = rng.uniform(-0.05, 0.05)
    body = _toward(colour, (255, 255, 255) if shade > 0 else (0, 0, 0), abs(shade))
    dark, bright = sum(body) < 180, sum(body) > 700
    return {
        **_NEUTRALS,
        "body": body,
        "deep": _toward(body, (255, 255, 255), 0.16) if dark else _toward(body, _INK, 0.18),
        "pale": _toward(body, (255, 255, 255), 0.26 if dark else 0.5),
        "spot": (206, 206, 212) if bright else _NEUTRALS["paper"],
        "line": (138, 136, 146) if dark else _INK,
    }


class Figure:
    """Parts in coordinates of their own, y downwards; `paint` fits them into the picture.

    Solids make the silhouette: all of them together get one outline. Marks lie on top.
    """

    def __init__(self) -> None:
        """A figure without parts."""
        self._solids: list[tuple[Points, float, str]] = []  # points, width or 0 if filled, tone
        self._marks: list[tuple[Points, float, str, bool]] = []  # the same, and whether rimmed

    def solid(self, points: Points, tone: str = "body") -> None:
        """Add a filled polygon to the silhouette."""
        self._solids.append((points, 0.0, tone))

    def limb(self, points: Points, width: float, tone: str = "body") -> None:
        """Add a thick line with round ends to the silhouette."""
        self._solids.append((points, width, tone))

    def mark(self, points: Points, tone: str, rim: bool = False) -> None:
        """Put a filled polygon on top, with a thin outline if `rim`."""
        self._marks.append((points, 0.0, tone, rim))

    def line(self, points: Points, width: float = 0.022, tone: str = "line") -> None:
        """Put a line with round ends on top."""
        self._marks.append((points, width, tone, False))

    def eye(self, x: float, y: float, radius: float = 0.042) -> None:
        """Put an eye on top that looks to the right."""
        self.mark(oval(x, y, radius, radius * 1.15, count=12), "paper", rim=True)
        pupil = radius * 0.55
        self.mark(oval(x + radius * 0.25, y, pupil, pupil * 1.2, count=10), "night")

    def face(self, x: float, y: float) -> None:
        """Put two dots for eyes and a small smile on top."""
        for way in (-1, 1):
            self.mark(oval(x + 0.075 * way, y, 0.027, 0.036, count=10), "line")
        self.line(arc(x, y + 0.035, 0.055, 0.045, 15, 165, 6), 0.02)

    def paint(self, canvas: Canvas, colour: Colour, rng: Random) -> None:
        """Draw the figure in `colour`; `rng` decides shade, size, tilt, side and place."""
        colours = tones(colour, rng)
        scale = self._pose(rng)
        for extra, edge in ((_INK_WIDTH + _HALO_WIDTH, _HALO), (_INK_WIDTH, _INK)):
            for points, width, tone in self._solids:
                grown = extra - _INK_WIDTH if tone == "thread" else extra
                canvas.stroke(points, width * scale + 2 * grown, edge, closed=not width)
        for points, width, tone in self._solids:
            if width:
                canvas.stroke(points, width * scale, colours[tone])
            else:
                canvas.fill(points, colours[tone])
        for points, width, tone, rim in self._marks:
            if rim:
                canvas.stroke(points, 2 * _RIM_WIDTH, colours["line"], closed=True)
            if width:
                canvas.stroke(points, width * scale, colours[tone])
            else:
                canvas.fill(points, colours[tone])

    def _pose(self, rng: Random) -> float:
        """Move all points to their place in the picture; the factor by which lengths grew."""
        tilt = math.radians(rng.triangular(-_MAX_TILT_DEGREES, _MAX_TILT_DEGREES, 0))
        side = rng.choice((-1, 1))
        cos_tilt, sin_tilt = math.cos(tilt), math.sin(tilt)

        def turned(points: Points) -> Points:
            return [
                (side * x * cos_tilt - y * sin_tilt, side * x * sin_tilt + y * cos_tilt)
                for x, y in points
            ]

        solids = [(turned(points), width, tone) for points, width, tone in self._solids]
        xs = [x + way * w / 2 for points, w, _ in solids for x, _ in points for way in (-1, 1)]
        ys = [y + way * w / 2 for points, w, _ in solids for _, y in points for way in (-1, 1)]
        width, height = max(xs) - min(xs), max(ys) - min(ys)
        scale = rng.uniform(0.54, 0.76) / max(width, height)
        # The middle of the figure, such that its halo stays inside the picture.
        room_x, room_y = (0.94 - width * scale) / 2, (0.94 - height * scale) / 2
        move_x = 0.5 + rng.uniform(-room_x, room_x) - scale * (max(xs) + min(xs)) / 2
        move_y = 0.5 + rng.uniform(-0.6, 1) * room_y - scale * (max(ys) + min(ys)) / 2

        def placed(points: Points) -> Points:
            return [(x * scale + move_x, y * scale + move_y) for x, y in points]

        self._solids = [(placed(points), width, tone) for points, width, tone in solids]
        self._marks = [
            (placed(turned(points)), width, tone, rim) for points, width, tone, rim in self._marks
        ]
        return scale
