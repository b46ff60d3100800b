"""Kinds of index side by side on the same rows, from pymilvus: time, memory, disk, recall."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pymilvus import DataType
from pymilvus.exceptions import MilvusException

from benchmarks.report import percentile
from benchmarks.scale import room, world
from benchmarks.scale.stage import Stage
from glimpse.cli.console import say

_COLLECTION = "scale_kinds"
_FIELD = "vector"
_BATCH_ROWS = 1_000
_LIMIT = 10
_TIMEOUT_S = 600.0
_LOOK_S = 0.5
_MIN_PATIENCE_S, _PATIENCE = 30.0, 5  # times as long as the quickest kind so far
_EF = [{"ef": ef} for ef in (16, 32, 64, 128, 256, 512)]
_NPROBE = [{"nprobe": count} for count in (2, 4, 8, 16, 32, 64, 128)]


@dataclass(frozen=True)
class Kind:
    """An index type of Milvus, how it is built, and how it is searched, from fast to thorough."""

    name: str
    build: dict[str, Any]
    searches: list[dict[str, int]]


_HNSW = {"M": 16, "efConstruction": 200}
_IVF = {"nlist": 128}
KINDS = (
    Kind("HNSW", _HNSW, _EF),
    Kind("IVF_FLAT", _IVF, _NPROBE),
    Kind("IVF_SQ8", _IVF, _NPROBE),
    Kind("SCANN", _IVF, [{**each, "reorder_k": 100} for each in _NPROBE]),
    Kind("HNSW_SQ", {**_HNSW, "sq_type": "SQ8"}, _EF),
    Kind(
        "HNSW_SQ",
        {**_HNSW, "sq_type": "SQ8", "refine": True, "refine_type": "FP16"},
        [{**each, "refine_k": 2} for each in _EF],
    ),
    Kind("IVF_RABITQ", {**_IVF, "refine": True, "refine_type": "SQ8"}, _NPROBE),
    Kind("DISKANN", {}, [{"search_list": count} for count in (16, 32, 64, 128, 256)]),
)
"""Those that a server does not have are tried, and left out with its own words."""


class Kinds:
    """The comparison; leaves no collection behind."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._milvus = stage.milvus
        self._blocks = max(stage.options.kind_rows // world.BLOCK_ROWS, 1)
        self._asked = world.queries(stage.options.queries)
        self._patience_s: float = stage.options.max_wait_s

    def measure(self) -> dict[str, Any]:
        """By kind: what it took and gave, or why it is not there."""
        (exact,) = world.exact_neighbours(
            self._asked, self._blocks, _LIMIT, [world.FILTERS["none"]]
        )
        self._fill()
        found: dict[str, Any] = {}
        try:
            for kind in KINDS:
                name = f"{kind.name} refined" if "refine" in kind.build else kind.name
                say(f"    {name} ...")
                try:
                    found[name] = self._measure(kind, exact)
                except (MilvusException, TimeoutError) as error:
                    found[name] = {"refused": str(getattr(error, "message", error))[:200]}
                with contextlib.suppress(MilvusException):
                    self._milvus.release_collection(_COLLECTION, timeout=_TIMEOUT_S)
                    self._milvus.drop_index(_COLLECTION, _FIELD, timeout=_TIMEOUT_S)
        finally:
            self._milvus.drop_collection(_COLLECTION, timeout=_TIMEOUT_S)
        return {"rows": self._blocks * world.BLOCK_ROWS, "kinds": compared(found)}

    def _fill(self) -> None:
        """Vectors and nothing else; flushed, and merged into as few segments as Milvus makes."""
        milvus = self._milvus
        if milvus.has_collection(_COLLECTION):
            milvus.drop_collection(_COLLECTION)
        schema = milvus.create_schema()
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field(_FIELD, DataType.FLOAT_VECTOR, dim=world.DIMENSION)
        milvus.create_collection(_COLLECTION, schema=schema)
        for block in range(self._blocks):
            vectors = world.block_vectors(block)
            for start in range(0, len(vectors), _BATCH_ROWS):
                first = block * world.BLOCK_ROWS + start
                rows = [
                    {"id": first + i, _FIELD: vector}
                    for i, vector in enumerate(vectors[start : start + _BATCH_ROWS])
                ]
                milvus.insert(_COLLECTION, rows, timeout=_TIMEOUT_S)
        milvus.flush(_COLLECTION, timeout=_TIMEOUT_S)

    def _measure(self, kind: Kind, exact: world.Exact) -> dict[str, Any]:
        before = self._index_files()
        build_s = self._build(kind)
        # A server takes some kinds that it then never builds.
        self._patience_s = min(self._patience_s, _MIN_PATIENCE_S + _PATIENCE * build_s)
        disk_bytes = sum(map(room.size_of, self._index_files() - before))
        before_mb = self._stage.rss_mb()
        began_s = time.perf_counter()
        self._milvus.load_collection(_COLLECTION, timeout=_TIMEOUT_S)
        load_s = time.perf_counter() - began_s
        curve = [self._search(parameters, exact) for parameters in kind.searches]
        return {
            "build_s": round(build_s, 1),
            "load_s": round(load_s, 1),
            "memory_mb": round(self._stage.rss_mb() - before_mb, 1),
            "disk_mb": round(disk_bytes / 1e6, 1),
            "curve": curve,
        }

    def _build(self, kind: Kind) -> float:
        parameters = self._milvus.prepare_index_params()
        parameters.add_index(
            _FIELD, index_type=kind.name, index_name=_FIELD, metric_type="IP", params=kind.build
        )
        began_s = time.perf_counter()
        self._milvus.create_index(_COLLECTION, parameters, sync=False, timeout=_TIMEOUT_S)
        while True:
            index = self._milvus.describe_index(_COLLECTION, _FIELD, timeout=_TIMEOUT_S)
            if index["state"] == "Failed":
                raise MilvusException(message="the index failed to build")
            if not index["pending_index_rows"]:
                return time.perf_counter() - began_s
            if time.perf_counter() - began_s > self._patience_s:
                raise TimeoutError(f"not built within {self._patience_s:.0f} s")
            time.sleep(_LOOK_S)

    def _search(self, parameters: dict[str, int], exact: world.Exact) -> dict[str, Any]:
        answers, milliseconds = [], []
        for query in self._asked:
            began_s = time.perf_counter()
            (hits,) = self._milvus.search(
                *(_COLLECTION, query[None]),
                limit=_LIMIT,
                anns_field=_FIELD,
                search_params={"params": parameters},
                timeout=_TIMEOUT_S,
            )
            milliseconds.append(1000 * (time.perf_counter() - began_s))
            answers.append([(world.id_of(hit["id"]), hit["distance"]) for hit in hits])
        quality = world.recall(exact, answers)
        return {
            "parameters": parameters,
            "p50_ms": round(percentile(milliseconds, 0.5), 2),
            "p99_ms": round(percentile(milliseconds, 0.99), 2),
            "recall_id": round(quality["recall_id"], 4),
        }

    def _index_files(self) -> set[Path]:
        """Of all indexes; those that are no longer needed go sometime. Milvus Lite has no place of
        their own for them."""
        folder = self._stage.server.directory
        of_server = folder / "data" / "index_files"
        return set((of_server if of_server.is_dir() else folder).rglob("*"))


def compared(found: dict[str, Any]) -> dict[str, Any]:
    """With the recall of each kind at one p99, that of HNSW at the ef that we take."""
    curve = found.get("HNSW", {}).get("curve", [])
    ours = [point for point in curve if point["parameters"]["ef"] == 128]
    if not ours:
        return found
    p99_ms = ours[0]["p99_ms"]
    return {
        name: {**each, "recall_at_p99": recall_at(each["curve"], p99_ms), "at_p99_ms": p99_ms}
        if "curve" in each
        else each
        for name, each in found.items()
    }


def recall_at(curve: list[dict[str, Any]], p99_ms: float) -> float:
    """The recall at that p99, between the points of a curve; 0 where none is as fast."""
    points = sorted((point["p99_ms"], point["recall_id"]) for point in curve)
    if p99_ms < points[0][0]:
        return 0.0
    best = np.maximum.accumulate([recall for _, recall in points])
    return round(float(np.interp(p99_ms, [ms for ms, _ in points], best)), 4)
