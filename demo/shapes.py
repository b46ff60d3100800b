"""Points of simple shapes, and a canvas with unit coordinates to draw them on; knows no things."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

Point = tuple[float, float]
Points = Sequence[Point]
Colour = tuple[int, int, int]


def oval(x: float, y: float, rx: float, ry: float, tilt: float = 0.0, count: int = 30) -> Points:
    """Corner points of an oval around (x, y), turned by `tilt` radians."""
    cos_tilt, sin_tilt = math.cos(tilt), math.sin(tilt)
    points = []
    for index in range(count):
        angle = math.tau * index / count
        dx, dy = rx * math.cos(angle), ry * math.sin(angle)
        points.append((x + dx * cos_tilt - dy * sin_tilt, y + dx * sin_tilt + dy * cos_tilt))
    return points


def arc(
    x: float, y: float, rx: float, ry: float, start: float, end: float, count: int = 18
) -> Points:
    """Points along an oval from angle `start` to `end`, in degrees; 90 is down, as y grows down."""
    points = []
    for index in range(count + 1):
        angle = math.radians(start + (end - start) * index / count)
        points.append((x + rx * math.cos(angle), y + ry * math.sin(angle)))
    return points


def box(left: float, top: float, right: float, bottom: float) -> Points:
    """The four corners of an upright rectangle."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def round_box(left: float, top: float, right: float, bottom: float, radius: float) -> Points:
    """An upright rectangle with rounded corners."""
    return [
        *arc(right - radius, top + radius, radius, radius, -90, 0, 4),
        *arc(right - radius, bottom - radius, radius, radius, 0, 90, 4),
        *arc(left + radius, bottom - radius, radius, radius, 90, 180, 4),
        *arc(left + radius, top + radius, radius, radius, 180, 270, 4),
    ]


def smooth(knots: Points, closed: bool = True, steps: int = 6) -> Points:
    """A Catmull-Rom curve through `knots`."""
    count = len(knots)
    points = []
    for index in range(count if closed else count - 1):
        if closed:
            a, d = knots[index - 1], knots[(index + 2) % count]
        else:
            a, d = knots[max(index - 1, 0)], knots[min(index + 2, count - 1)]
        b, c = knots[index], knots[(index + 1) % count]
        for step in range(steps):
            t = step / steps
            wa, wb = ((2 - t) * t - 1) * t / 2, ((3 * t - 5) * t * t + 2) / 2
            wc, wd = ((4 - 3 * t) * t + 1) * t / 2, (t - 1) * t * t / 2
            points.append(
                (
                    wa * a[0] + wb * b[0] + wc * c[0] + wd * d[0],
                    wa * a[1] + wb * b[1] + wc * c[1] + wd * d[1],
                )
            )
    if not closed:
        points.append(knots[-1])
    return points


def ring(x: float, y: float, outer: float, inner: float, tips: int, turn: float = 0.0) -> Points:
    """A zigzag around (x, y) with `tips` outer and as many inner corners: a star."""
    points = []
    for index in range(2 * tips):
        angle = turn + math.pi * index / tips - math.pi / 2
        radius = inner if index % 2 else outer
        points.append((x + radius * math.cos(angle), y + radius * math.sin(angle)))
    return points


class Canvas:
    """A square picture addressed in unit coordinates, so that every size shows the same picture."""

    def __init__(self, side: int, top: Colour, bottom: Colour) -> None:
        """A canvas of `side` pixels whose ground runs from `top` down to `bottom`."""
        ground = Image.new("RGB", (1, 2), top)
        ground.putpixel((0, 1), bottom)
        self.image = ground.resize((side, side), Image.Resampling.BILINEAR)
        self._side = side
        self._pen = ImageDraw.Draw(self.image)

    def fill(self, points: Points, colour: Colour) -> None:
        """Fill a polygon."""
        side = self._side
        self._pen.polygon([(x * side, y * side) for x, y in points], fill=colour)

    def dot(self, x: float, y: float, rx: float, colour: Colour, ry: float | None = None) -> None:
        """Fill an upright oval around (x, y)."""
        side, ry = self._side, rx if ry is None else ry
        bounds = ((x - rx) * side, (y - ry) * side, (x + rx) * side, (y + ry) * side)
        self._pen.ellipse(bounds, fill=colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """Fill an upright rectangle."""
        side = self._side
        self._pen.rectangle((left * side, top * side, right * side, bottom * side), fill=colour)

    def stroke(self, points: Points, width: float, colour: Colour, closed: bool = False) -> None:
        """Draw a line through `points`, `width` thick, with round ends and round corners."""
        side = self._side
        spots = [(x * side, y * side) for x, y in points]
        path = [*spots, spots[0]] if closed else spots
        self._pen.line(path, fill=colour, width=max(1, round(width * side)))
        radius = width * side / 2
        if radius < 1:
            return
        # Pillow's thick lines leave a gap at the outer side of each turn: a disc closes it.
        for x, y in spots:
            self._pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
