"""`make bench-compare BASE=file.json`: a run held against an earlier one of the same benchmark.

Prints the ratio of each figure, and exits with 1 when one is worse by more than the loss allowed.
Compare runs of one machine: on another, only figures that are ratios themselves mean anything.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

_FOLDERS = (Path("build/bench"), Path("build/load"))


@dataclass(frozen=True)
class Comparison:
    """One figure before and now. `loss`: how much worse it is, as a share of before; negative:
    better; None where the two cannot be told better from worse."""

    key: str
    before: float | None
    now: float | None
    loss: float | None

    @property
    def ratio(self) -> float | None:
        """Now over before."""
        return self.now / self.before if self.before and self.now is not None else None

    def fails(self, max_loss: float) -> bool:
        return self.loss is not None and self.loss > max_loss

    def line(self, max_loss: float) -> str:
        verdict = "-" if self.loss is None else "WORSE" if self.fails(max_loss) else "ok"
        ratio = "" if self.ratio is None else f"{self.ratio:.3f}"
        return f"{self.key:<36}{_shown(self.before):>12}{_shown(self.now):>12}{ratio:>9}  {verdict}"


def compare(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Comparison]:
    """The figures of two reports' JSON, in the order of the first; what is only in the second is
    new and has nothing to be held against."""
    values = {record["key"]: record["value"] for record in now["figures"]}
    comparisons = []
    for record in before["figures"]:
        old, new = record["value"], values.get(record["key"])
        comparisons.append(Comparison(record["key"], old, new, _loss(record, old, new)))
    return comparisons


def better(record: Mapping[str, Any]) -> Literal["higher", "lower"] | None:
    """Which way a figure improves: by its bar, else by its unit; None where neither tells."""
    bar = record.get("bar")
    if bar:  # one from … to … has no better way
        return "higher" if bar.startswith("≥") else "lower" if bar.startswith("≤") else None
    if record["key"].endswith("per_s"):
        return "higher"
    return "lower" if record["key"].endswith(("_s", "_ms", "_mb")) else None


def _loss(record: Mapping[str, Any], old: float | None, new: float | None) -> float | None:
    if old is None:
        return None
    if new is None:
        return 1.0  # it was measured, and is no more
    if isinstance(old, bool):
        return float(old and not new)
    direction = better(record)
    if direction is None:
        return None
    worse = old - new if direction == "higher" else new - old
    return worse / old if old else float(worse > 0)


def _shown(value: float | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, bool) else f"{value:.4g}"


def main(arguments: list[str] | None = None) -> int:
    """0; 1 when a figure is worse than allowed; 2 when there is nothing to compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("base", type=Path, help="the earlier run's JSON file")
    parser.add_argument("new", type=Path, nargs="?", help="default: the file of that name in build")
    parser.add_argument(
        "--loss", type=float, default=0.10, help="allowed, as a share; 0.10 is 10%%"
    )
    options = parser.parse_args(arguments)
    new = options.new or next(
        (path for folder in _FOLDERS if (path := folder / options.base.name).exists()), None
    )
    if new is None:
        print(f"there is no {options.base.name} in build/bench or build/load", file=sys.stderr)
        return 2
    before, now = (json.loads(path.read_text(encoding="utf-8")) for path in (options.base, new))
    for what in ("processor", "cores"):
        if before["machine"].get(what) != now["machine"].get(what):
            print(f"not the same {what}: ratios of rates and times mean little", file=sys.stderr)
    comparisons = compare(before, now)
    print(f"{'figure':<36}{'before':>12}{'now':>12}{'ratio':>9}")
    for comparison in comparisons:
        print(comparison.line(options.loss))
    return int(any(comparison.fails(options.loss) for comparison in comparisons))


if __name__ == "__main__":
    raise SystemExit(main())
