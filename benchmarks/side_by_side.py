"""The one table of `make bench`: glimpse, the tutorial's loop and the machine's limit side by side.

Read from the details of the three benchmarks' files; a line whose measurements are missing is left
out.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report import shown

# Of ViT-B/32's image tower, for one image: what the matrix-product rate is divided by.
GFLOP_PER_IMAGE = 8.7

_HEAD = ("", "tutorial's loop", "glimpse", "times", "limit by matrix products")

Content = Mapping[str, Any]


def rows(reports: Mapping[str, Content]) -> list[Sequence[str]]:
    """The head and the lines; nothing where there is no line."""
    lines = [*_encoder(reports.get("Encoder", {}))]
    for store in ("Milvus server", "Milvus Lite"):
        lines += _searches(store, reports.get(f"Searches, {store}", {}))
        lines += _indexing(store, reports.get(f"Indexing, {store}", {}))
    return [_HEAD, *lines] if lines else []


def _encoder(report: Content) -> list[Sequence[str]]:
    details, machine = report.get("details", {}), report.get("machine", {})
    images, texts = "tutorial_images_per_s", "tutorial_texts_per_s"
    served = details.get("precision", "")
    found = []
    for precision in ("fp32", "bf16", "int8"):
        rate = machine.get(f"gflops_{precision}")
        limit = f"{rate / GFLOP_PER_IMAGE:,.0f}" if rate else ""
        found += [
            (f"images/s, in process, {precision}", images, f"{precision}_images_per_s", limit),
            (f"texts/s, one by one, {precision}", texts, f"{precision}_texts_per_s", ""),
        ]
        if precision == served:
            found += [
                (f"images/s, gRPC, pixels, {served}", images, "grpc_images_per_s", limit),
                (f"texts/s, gRPC, 64 callers, {served}", texts, "grpc_texts_per_s", ""),
            ]
    return [
        _row(what, details[theirs], details[ours], bound)
        for what, theirs, ours, bound in found
        if details.get(theirs) and details.get(ours)
    ]


def _searches(store: str, report: Content) -> list[Sequence[str]]:
    rounds = report.get("details", {}).get("rounds", {})
    if "tutorial" not in rounds:
        return []
    found = (
        ("one caller", "one_caller"),
        ("8 callers", "callers_8"),
        ("32 callers", "callers_32"),
        ("32 callers, popular texts", "callers_32_repeated"),
    )
    theirs = [each["per_s"] for each in rounds["tutorial"]]
    return [
        _row(f"searches/s, {store}, {what}", theirs, [each["per_s"] for each in rounds[key]], "")
        for what, key in found
        if rounds.get(key)
    ]


def _indexing(store: str, report: Content) -> list[Sequence[str]]:
    rounds = report.get("details", {}).get("rounds", [])
    if not rounds or not {"ours_per_s", "tutorial_per_s"} <= set(rounds[0]):
        return []
    theirs, ours = ([each[key] for each in rounds] for key in ("tutorial_per_s", "ours_per_s"))
    return [_row(f"pictures/s from file to row, {store}", theirs, ours, "")]


def _row(what: str, theirs: Sequence[float], ours: Sequence[float], limit: str) -> Sequence[str]:
    times = statistics.median(ours) / statistics.median(theirs)
    return (what, spread(theirs), spread(ours), f"{times:.1f}", limit)


def spread(values: Sequence[float]) -> str:
    """Median, and how far the repeated measurements lay apart."""
    if len(values) == 1:
        return shown(values[0])
    return f"{shown(statistics.median(values))} ({shown(min(values))} … {shown(max(values))})"
