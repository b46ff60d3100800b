"""Line charts on one page, as a PNG; what they show is decided by `page`'s callers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

_WIDTH, _HEIGHT = 760, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 24, 54, 56
_COLOURS = ("#1f6fb4", "#d1601f", "#2d8a3e", "#8a3ea8", "#555555", "#b8860b", "#c02050", "#008b8b")
_GRID, _INK, _PAPER = "#dddddd", "#222222", "white"
_TICKS = 5

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """Lines by their names; `log` scales the y axis by powers of ten."""

    title: str
    x: str
    y: str
    lines: Mapping[str, Points] = field(default_factory=dict)
    log: bool = False


def page(charts: Sequence[Chart], path: Path, columns: int = 2) -> None:
    """Draws the charts that have points, side by side."""
    drawn = [_draw(chart) for chart in charts if any(chart.lines.values())]
    rows = math.ceil(len(drawn) / columns)
    sheet = Image.new("RGB", (columns * _WIDTH, max(rows, 1) * _HEIGHT), _PAPER)
    for number, image in enumerate(drawn):
        sheet.paste(image, (number % columns * _WIDTH, number // columns * _HEIGHT))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


@dataclass(frozen=True)
class _Axis:
    """Values to places along so many pixels."""

    low: float
    high: float
    pixels: int
    log: bool = False

    def place(self, value: float) -> float:
        if self.log:
            low, high, value = (math.log10(each) for each in (self.low, self.high, value))
        else:
            low, high = self.low, self.high
        return self.pixels * (value - low) / (high - low)

    def ticks(self) -> list[float]:
        if self.log:
            first, last = round(math.log10(self.low)), round(math.log10(self.high))
            return [10.0**power for power in range(first, last + 1)]
        step = _nice((self.high - self.low) / _TICKS)
        first = math.ceil(self.low / step)
        return [step * n for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _draw(chart: Chart) -> Image.Image:
    image = Image.new("RGB", (_WIDTH, _HEIGHT), _PAPER)
    draw = ImageDraw.Draw(image)
    small, large = ImageFont.load_default(13), ImageFont.load_default(17)
    points = [point for line in chart.lines.values() for point in line]
    x = _axis([x for x, _ in points], _WIDTH - _LEFT - _RIGHT)
    y = _axis([y for _, y in points], _HEIGHT - _TOP - _BOTTOM, chart.log)
    bottom = _HEIGHT - _BOTTOM

    def at(point: tuple[float, float]) -> tuple[float, float]:
        return _LEFT + x.place(point[0]), bottom - y.place(max(point[1], y.low))

    for value in y.ticks():
        height = at((x.low, value))[1]
        draw.line([(_LEFT, height), (_WIDTH - _RIGHT, height)], _GRID)
        draw.text((_LEFT - 8, height), _shown(value), _INK, small, anchor="rm")
    for value in x.ticks():
        across = at((value, y.low))[0]
        draw.line([(across, bottom), (across, bottom + 5)], _INK)
        draw.text((across, bottom + 8), _shown(value), _INK, small, anchor="mt")
    draw.rectangle([(_LEFT, _TOP), (_WIDTH - _RIGHT, bottom)], outline=_INK)
    for number, (name, line) in enumerate(chart.lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [at(point) for point in sorted(line)]
        if len(places) > 1:
            draw.line(places, colour, 2)
        for across, height in places:
            draw.ellipse([(across - 3, height - 3), (across + 3, height + 3)], fill=colour)
        top = _TOP + 8 + 18 * number
        draw.line([(_LEFT + 10, top + 8), (_LEFT + 30, top + 8)], colour, 3)
        draw.text((_LEFT + 36, top), name, _INK, small)
    draw.text((_LEFT, 8), chart.title, _INK, large)
    draw.text((_LEFT, 34), chart.y, _INK, small)
    draw.text((_WIDTH - _RIGHT, _HEIGHT - 8), chart.x, _INK, small, anchor="rb")
    return image


def _axis(values: Sequence[float], pixels: int, log: bool = False) -> _Axis:
    if log:
        positive = [value for value in values if value > 0] or [1.0]
        low = 10.0 ** math.floor(math.log10(min(positive)))
        high = 10.0 ** math.ceil(math.log10(max(positive)))
        return _Axis(low, max(high, 10 * low), pixels, log)
    high = max(*values, 0)
    step = _nice(high / _TICKS) if high else 1.0
    return _Axis(0.0, step * math.ceil(high / step + 1e-9), pixels)


def _nice(step: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(n * power for n in (1, 2, 5, 10) if n * power >= step * 0.999)


def _shown(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
