"""Figures, their bars, the table and the JSON file of a run."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Bar:
    """What a figure has to reach."""

    kind: Literal["at least", "at most"]
    limit: float
    at_most: float = math.inf  # beside what it has to be at least

    def is_met_by(self, value: float) -> bool:
        if self.kind == "at most":
            return value <= self.limit
        return self.limit <= value <= self.at_most

    def __str__(self) -> str:
        if math.isfinite(self.at_most):
            return f"{self.limit:g} to {self.at_most:g}"
        return f"{'≥' if self.kind == 'at least' else '≤'} {self.limit:g}"


@dataclass(frozen=True)
class Spread:
    """The median of repeated measurements, and how far they lay apart."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    @classmethod
    def middle_half(cls, values: Sequence[float]) -> Spread:
        """Of many values, where the half in the middle lies: a few may be far off by accident."""
        low, median, high = statistics.quantiles(values, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True)
class Figure:
    """One line of the table. `value` None: not measured, for `reason`; True or False: it holds."""

    key: str
    meaning: str
    value: float | None
    bar: Bar | None = None
    spread: Spread | None = None
    reason: str = ""

    @classmethod
    def ratio(
        cls, key: str, meaning: str, over: Sequence[float], under: Sequence[float], bar: Bar
    ) -> Figure:
        """The median of the ratios of measurements that were taken in turn."""
        spread = Spread.of([a / b for a, b in zip(over, under, strict=True)])
        return cls(key, meaning, spread.median, bar, spread)

    @property
    def is_met(self) -> bool | None:
        """None where there is nothing to meet."""
        if isinstance(self.value, bool):
            return self.value
        if self.value is None or self.bar is None:
            return None
        return self.bar.is_met_by(self.value)


@dataclass
class Report:
    """What a run found out; `details` are the measurements behind the figures."""

    name: str
    command: str
    machine: dict[str, Any]
    has_bars: bool = True
    figures: list[Figure] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Figures under their own keys, a dot being a level; the rest beside them."""
        content: dict[str, Any] = {}
        for figure in self.figures:
            if figure.value is not None:
                _put(content, figure.key.split("."), _rounded(figure.value))
        content["not_measured"] = {f.key: f.reason for f in self.figures if f.value is None}
        content["figures"] = [self._record(figure) for figure in self.figures]
        content |= {"command": self.command, "machine": self.machine, "details": self.details}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def table(self) -> str:
        """For people: figure, its spread over the repeats, bar, and whether it is met."""
        rows = [("figure", "value", "low … high", "bar", "met", "meaning")]
        for figure in self.figures:
            met = figure.is_met if self.has_bars else None
            rows.append(
                (
                    figure.key,
                    shown(figure.value),
                    f"{figure.spread.low:.3g} … {figure.spread.high:.3g}" if figure.spread else "",
                    str(figure.bar or "") if self.has_bars else "",
                    {True: "yes", False: "NO", None: "-"}[met],
                    figure.meaning + (f" ({figure.reason})" if figure.reason else ""),
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
        lines = [
            "  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[-1]])
            for row in rows
        ]
        return "\n".join([self._title(), *lines])

    def _title(self) -> str:
        machine = self.machine
        sets = " ".join(machine["instruction_sets"]) or "no vector instructions known"
        return (
            f"\n{self.name}: {machine['processor']}, {machine['cores']} cores, {sets}, "
            f"{machine['gflops_fp32']:.0f} GFLOP/s fp32, {machine['date']}"
        )

    def _record(self, figure: Figure) -> dict[str, Any]:
        return {
            "key": figure.key,
            "meaning": figure.meaning,
            "value": None if figure.value is None else _rounded(figure.value),
            "spread": {k: _rounded(v) for k, v in asdict(figure.spread).items()}
            if figure.spread
            else None,
            "bar": str(figure.bar) if figure.bar and self.has_bars else None,
            "met": figure.is_met if self.has_bars else None,
            "reason": figure.reason,
        }


def percentile(values: Sequence[float], share: float) -> float:
    """The least of `values` that at least `share` (0 to 1) of them do not exceed; NaN of none."""
    if not values:
        return math.nan
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]


def alternate(repeats: int, *measures: Callable[[], float]) -> list[list[float]]:
    """Takes each measurement in turn, `repeats` times: slow drifts of the machine hit all alike."""
    results: list[list[float]] = [[] for _ in measures]
    for _ in range(repeats):
        for values, measure in zip(results, measures, strict=True):
            values.append(measure())
    return results


def _put(content: dict[str, Any], path: Sequence[str], value: float) -> None:
    *parents, last = path
    for parent in parents:
        content = content.setdefault(parent, {})
    content[last] = value


def _rounded(value: float) -> float:
    if isinstance(value, bool) or not math.isfinite(value):
        return value
    return float(f"{value:.4g}")


def shown(value: float | None) -> str:
    """A figure in three digits, or in whole ones where it has more."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "holds" if value else "fails"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
