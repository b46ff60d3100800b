"""The page of plots of a run: which of its measurements stand beside each other."""

from __future__ import annotations

from typing import Any

from benchmarks.scale.figures import sizing_mb
from benchmarks.scale.plots import Chart, Points


def charts(results: dict[str, Any]) -> list[Chart]:
    """Rate, memory and latency over rows; latency by callers and by depth; kinds of index."""
    filling = results.get("filling", {})
    probes = filling.get("probes", [])

    def over_rows(key: str) -> Points:
        return [(probe["rows"], probe[key]) for probe in probes]

    last = probes[-1]["rows"] if probes else 0
    empty_mb = results.get("small", {}).get("empty_mb", 0.0)
    return [
        Chart(
            "Rows written per second",
            "rows in the collection",
            "rows/s, searched meanwhile by one caller",
            {
                "as the indexer writes": _rates(filling.get("writes", [])),
                "bare pymilvus": _rates(filling.get("bare_writes", [])),
            },
        ),
        Chart(
            "Memory of the server while it is filled",
            "rows in the collection",
            "10^6 bytes, resident",
            {
                "measured": over_rows("rss_mb"),
                "docs/sizing.md, without its head-room": [
                    (0, empty_mb),
                    (last, empty_mb + sizing_mb(last)),
                ]
                if last
                else [],
            },
        ),
        Chart(
            "Searches while rows are written, one caller",
            "rows in the collection",
            "ms",
            {
                "p50": over_rows("p50_ms"),
                "p99": over_rows("p99_ms"),
                "GetCollection": over_rows("get_collection_ms"),
                "ListCollections": over_rows("list_collections_ms"),
            },
            log=True,
        ),
        Chart(
            "Searches while the index is built and segments are merged, one caller",
            "seconds after the last row",
            "ms",
            _building(results),
            log=True,
        ),
        Chart(
            "Searches by filter",
            "callers",
            "ms, p99",
            {
                f"filter takes {name}" if name != "none" else "no filter": [
                    (int(callers), load["p99_ms"])
                    for callers, load in by_callers.items()
                    if callers.isdigit() and "p99_ms" in load
                ]
                for name, by_callers in results.get("searches", {}).items()
                if name != "in turn"
            },
            log=True,
        ),
        Chart(
            "Recall and p99 of kinds of index",
            "p99, ms, one caller",
            "recall@10",
            {
                name: [(point["p99_ms"], point["recall_id"]) for point in each["curve"]]
                for name, each in results.get("kinds", {}).get("kinds", {}).items()
                if "curve" in each
            },
        ),
    ]


def _rates(writes: list[list[float]]) -> Points:
    """Of about 20 parts of the filling."""
    size = max(len(writes) // 20, 1)
    parts = [writes[start : start + size] for start in range(0, len(writes), size)]
    return [
        (part[-1][0] + part[-1][1], sum(w[1] for w in part) / sum(w[2] for w in part))
        for part in parts
    ]


def _building(results: dict[str, Any]) -> dict[str, Points]:
    looks, behind_s = [], 0.0
    for step in ("build", "compact"):
        found = results.get(step, {})
        looks += [(behind_s + look["s"], look) for look in found.get("looks", [])]
        behind_s += found.get("s", 0.0)
    return {
        key.removesuffix("_ms"): [(s, look[key]) for s, look in looks if look[key]]
        for key in ("p50_ms", "p99_ms")
    }
