"""The figures of a run and their bars, from what its steps have found; nothing is measured here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.report import Bar, Figure, Spread
from benchmarks.scale.world import FILTERS, METADATA_BYTES

_HNSW_BYTES, _ATTRIBUTE_BYTES = 2_180, 512  # docs/sizing.md, "Bytes of one image"
_END_SHARE = 0.1  # of the rows: what "the beginning" and "the end" of a filling mean

Results = dict[str, Any]


def sizing_mb(rows: int) -> float:
    """What docs/sizing.md says that so many rows take in memory, without its head-room, in 10^6
    bytes: HNSW's vectors and links, attributes, metadata."""
    return rows * (_HNSW_BYTES + _ATTRIBUTE_BYTES + METADATA_BYTES) / 1e6


def figures(rows: int, results: Results) -> list[Figure]:
    """Those that the steps so far allow."""
    found: list[Figure] = []
    if "searches" in results:
        found += _ratios(results["searches"])
    if "recall" in results:
        found += _quality(results["recall"])
    if "filling" in results:
        found += _insertion(rows, results["filling"])
    if "rerun" in results:
        found.append(_rerun(results["rerun"]))
    if "transfer" in results:
        found += _transfer(results["transfer"])
    found += _memory(results)
    if "compact" in results:
        is_whole = results["compact"]["is_whole"]
        found.append(Figure("merged", "segments were merged before anything else", is_whole))
    return [*found, *_plain(results)]


def _ratios(searches: Results) -> list[Figure]:
    turns = searches["in turn"]

    def p50(name: str) -> list[float]:
        return [turn[name]["p50_ms"] for turn in turns]

    return [
        Figure.ratio(
            "p50_ratio",
            "p50 at one caller ÷ at 20,000 rows, both settled",
            p50("vectors scale"),
            p50("vectors scale_small"),
            Bar("at most", 2.5),
        ),
        _without_bar(
            "bare.p50_ratio",
            "the same of bare pymilvus",
            [
                a / b
                for a, b in zip(
                    p50("bare_vectors scale"), p50("bare_vectors scale_small"), strict=True
                )
            ],
        ),
        _without_bar(
            "share_of_bare",
            "p50 at one caller ÷ that of bare pymilvus",
            [a / b for a, b in zip(p50("vectors scale"), p50("bare_vectors scale"), strict=True)],
        ),
    ]


def _quality(recall: Results) -> list[Figure]:
    plain = recall["none"]
    filled = min(recall[name]["filled_share"] for name in FILTERS)
    return [
        Figure("recall_id", "recall@10 by id", plain["recall_id"], Bar("at least", 0.95)),
        Figure(
            "recall_score",
            "scores of the first 10 ÷ those of the exact first 10",
            plain["recall_score"],
            Bar("at least", 0.999),
        ),
        Figure(
            "filled_share",
            "hits ÷ asked under the filter that gives the least",
            filled,
            Bar("at least", 1.0),
        ),
    ]


def _insertion(rows: int, filling: Results) -> list[Figure]:
    found = []
    for key, meaning, name, bar in (
        ("insert_share", "", "writes", Bar("at least", 0.8)),
        ("bare.insert_share", ", bare pymilvus", "bare_writes", None),
    ):
        first = rate(filling[name], 0, _END_SHARE * rows)
        last = rate(filling[name], (1 - _END_SHARE) * rows, rows)
        value = last / first if first and last else None
        text = f"rows/s at the end ÷ at the beginning{meaning}"
        found.append(Figure(key, text, value, bar, reason="" if value else "too few rows"))
        found.append(Figure(f"{key}_last_per_s", f"rows/s at the end{meaning}", last))
    return found


def rate(writes: Sequence[Sequence[float]], first: float, last: float) -> float | None:
    """Rows per second of the writes from one number of rows to another; None of none."""
    within = [(rows, seconds) for before, rows, seconds in writes if first <= before < last]
    return sum(r for r, _ in within) / sum(s for _, s in within) if within else None


def _rerun(rerun: Results) -> Figure:
    rounds = rerun["rounds"]
    return Figure.ratio(
        "rerun_ratio",
        "unchanged pictures indexed again ÷ the same at 20,000 rows, time",
        [each["scale"]["s"] for each in rounds],
        [each["scale_small"]["s"] for each in rounds],
        Bar("at most", 1.5),
    )


def _transfer(transfer: Results) -> list[Figure]:
    rounds = transfer["rounds"]
    by_way = {
        way: [each for each in rounds if f"{way}_per_s" in each] for way in ("export", "import")
    }
    found = [
        Figure.ratio(
            f"{way}_share",
            f"rows/s of glimpse {way} ÷ those of bare pymilvus' {bare}",
            [each[f"{way}_per_s"] for each in by_way[way]],
            [each[f"bare_{way}_per_s"] for each in by_way[way]],
            Bar("at least", 0.7),
        )
        for way, bare in (("export", "iterator"), ("import", "upserts"))
    ]
    for way, measured in by_way.items():
        for key, meaning in (("per_s", "rows/s"), ("mb", "memory at most, in 10^6 bytes,")):
            values = [each[f"{way}_{key}"] for each in measured]
            found.append(_without_bar(f"{way}_{key}", f"{meaning} of glimpse {way}", values))
        found += _spent(way, measured)
    moved = [each["moved"][way] for way, measured in by_way.items() for each in measured]
    is_whole = all(there == wanted for there, wanted in moved)
    return [*found, Figure("transfer_whole", "every row was exported and imported", is_whole)]


def _spent(way: str, rounds: Sequence[Results]) -> list[Figure]:
    """Where the time of a row goes, beside bare pymilvus: by the clock, and of the processors,
    without a command's start."""
    found = []

    def add(key: str, meaning: str, values: Sequence[float]) -> None:
        found.append(_without_bar(f"{way}_us.{key}", f"microseconds of a row, {meaning}", values))

    for name, who_else in ((way, "glimpse"), (f"bare_{way}", "bare pymilvus")):
        bare = "" if name == way else "bare_"
        add(f"{bare}clock", f"{who_else} {way}", [1e6 / each[f"{name}_per_s"] for each in rounds])
        for who in ("caller", "milvus") if bare else ("caller", "indexer", "milvus"):
            values = [
                1000 * (each["processor_ms"][name][who] - _start_ms(each, way, who, bare))
                for each in rounds
            ]
            add(f"{bare}{who}", f"{who_else} {way}, processors, {who}", values)
    waits = [1000 * each[f"{way}_milvus_ms"] for each in rounds]
    add("milvus_wait", f"glimpse {way}, the indexer's requests to Milvus, by the clock", waits)
    return found


def _start_ms(each: Results, way: str, who: str, bare: str) -> float:
    """Of a row, what the start of a command takes of its own process and the indexer."""
    rows = each["moved"][way][1]
    return 0.0 if bare or who == "milvus" else each["processor_ms"]["start"][who] / rows


def held_mb(results: Results, step: str) -> float:
    """What the collections hold of the server's memory at the end of a step, in 10^6 bytes."""
    return float(results["memory"][step]["rss_mb"] - results["small"]["empty_mb"])


def _memory(results: Results) -> list[Figure]:
    """Of a server that was started again, what its query node has loaded; before that, also what
    its other parts took for writing, merging and building, and have not given back."""
    found = []
    for key, step, when, bar in (
        ("memory_share", "restart", "after a restart", Bar("at least", 0.85, 1.15)),
        ("memory_share_before", "compact", "after the merge", None),
    ):
        if step in results.get("memory", {}):
            value = held_mb(results, step) / sizing_mb(results["memory"][step]["rows"])
            meaning = f"memory of the server {when}, but for an empty one's ÷ docs/sizing.md's"
            found.append(Figure(key, meaning, value, bar))
    return found


def _plain(results: Results) -> list[Figure]:
    """What has no bar."""
    found = []
    for step, key, meaning in (
        ("build", "s", "seconds after the last row until all are found through the index"),
        ("compact", "s", "seconds of merging segments and building their index anew"),
        ("delete", "s", "seconds of deleting 1% by a filter"),
        ("upsert", "per_s", "rows/s of writing 1% again"),
        ("restart", "scale_s", "seconds from the server's start to the first answer"),
    ):
        if step in results:
            found.append(Figure(f"{step}.{key}", meaning, results[step][key]))
    for name, value in results.get("catalog", {}).items():
        found.append(Figure(f"catalog.{name}_ms", "milliseconds", value))
    return found


def _without_bar(key: str, meaning: str, values: Sequence[float]) -> Figure:
    spread = Spread.of(values)
    return Figure(key, meaning, spread.median, None, spread)
