"""`python -m benchmarks.scale.sizing [FILE ...]`: writes docs/sizing.md's table of measured sizes
from the files of `make bench-scale`, and what follows from them for larger ones."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.document import markdown
from benchmarks.report import shown
from benchmarks.scale.figures import held_mb, sizing_mb

PAGE = Path("docs/sizing.md")
_FOLDER = Path("build/bench")
_BLOCK = re.compile(r"(<!-- begin: measured -->\n).*?(<!-- end -->)", re.DOTALL)
_BEYOND = (10**8, 10**9)
_AT_REST = "restart"
"""The step after which the server holds what it has loaded, and nothing of what made it."""

Content = Mapping[str, Any]


def read(paths: Sequence[Path]) -> list[Content]:
    """The runs that came as far as a restart, by their rows; of one size, the last file's."""
    found: dict[int, Content] = {}
    for path in paths:
        report = json.loads(path.read_text(encoding="utf-8"))
        details = report.get("details", {})
        if "restart" in details.get("steps", {}).get("memory", {}):
            found[details["options"]["rows"]] = report
    return [found[rows] for rows in sorted(found)]


def table(reports: Sequence[Content]) -> list[str]:
    """A row for each size."""
    head = (
        "images",
        "memory",
        "arithmetic",
        "measured ÷ arithmetic",
        "before a restart",
        "rows/s at the end",
        "p50, p99",
        "recall@10",
        "index built in",
    )
    return markdown([head, *map(_row, reports)])


def _row(report: Content) -> Sequence[str]:
    steps, rows = report["details"]["steps"], report["details"]["options"]["rows"]
    held = held_mb(steps, _AT_REST)
    expected = sizing_mb(steps["memory"][_AT_REST]["rows"])
    return (
        f"{rows:,}",
        f"{held / 1e3:.2f} GB",
        f"{expected / 1e3:.2f} GB",
        f"{held / expected:.2f}",
        f"{held_mb(steps, 'compact') / 1e3:.2f} GB",
        shown(report.get("insert_share_last_per_s")),
        _latency(steps),
        shown(report.get("recall_id")),
        f"{steps['build']['s']:,.0f} s, merged {steps['compact']['s']:,.0f} s later",
    )


def _latency(steps: Mapping[str, Any]) -> str:
    turns = steps.get("searches", {}).get("in turn")
    if not turns:
        return "-"
    middle = sorted(turn["vectors scale"]["p50_ms"] for turn in turns)[len(turns) // 2]
    worst = max(turn["vectors scale"]["p99_ms"] for turn in turns)
    return f"{middle:.0f} ms, {worst:.0f} ms"


def beyond(reports: Sequence[Content]) -> list[str]:
    """Memory of sizes that nobody has measured, from the bytes of an image at each measured size:
    the largest's, and between the least and the most of all."""
    runs = [report["details"]["steps"] for report in reports]
    each = [held_mb(steps, _AT_REST) * 1e6 / steps["memory"][_AT_REST]["rows"] for steps in runs]
    rows = [
        (
            f"{images:,}",
            f"{images * each[-1] / 1e9:,.0f} GB",
            f"{images * min(each) / 1e9:,.0f} to {images * max(each) / 1e9:,.0f} GB",
            f"{sizing_mb(images) / 1e3:,.0f} GB",
        )
        for images in _BEYOND
    ]
    head = ("images", "by the largest that was measured", "by all of them", "arithmetic")
    return markdown([head, *rows])


def section(reports: Sequence[Content]) -> str:
    """The block of docs/sizing.md."""
    machine = reports[-1]["machine"]
    where = f"{machine['processor']}, {machine['cores']} cores, {machine['date']}"
    lines = [
        f"{where}; one copy, 200 bytes of metadata a row:",
        "",
        *table(reports),
        "",
        "Extrapolated, without head-room, as if memory grew with the number of images:",
        "",
        *beyond(reports),
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """0; 2 where there is no file of a run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.sizing", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="default: build/bench/scale*.json")
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args(arguments)
    files = options.files or sorted(_FOLDER.glob("scale-[0-9]*.json"))
    reports = read(files)
    if not reports:
        print("no file of a run that came as far as a restart", file=sys.stderr)
        return 2
    page = options.page.read_text(encoding="utf-8")
    text = section(reports)
    options.page.write_text(
        _BLOCK.sub(lambda found: found[1] + text + found[2], page), encoding="utf-8"
    )
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
