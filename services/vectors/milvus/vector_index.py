"""Builds a collection's vector index and brings it into memory; when to do so is milvus.py's job.

No two of these may run at a time for one collection.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from services.vectors.milvus import errors, schema
from services.vectors.milvus.connection import Backend, MilvusCall
from services.vectors.records import REBUILDING, CollectionSpec, IndexKind

# Up to here Milvus Lite is fastest with FLAT, beyond it with HNSW.
_LITE_FLAT_ROWS = 10_000
_PAUSE_S, _MAX_PAUSE_S = 0.25, 5.0
_ATTEMPTS = 5
_AUTO = {"lite": "FLAT", "server": "HNSW", "cloud": "AUTOINDEX"}


@dataclass(frozen=True)
class Index:
    """What Milvus says of a collection's index.

    kind: Milvus' name, None without an index. Rows are of the segments that are closed, deleted
    ones included. found_rows: those that searches find through an index, also that of the small
    segments which a larger one was merged from. pending_rows: those of the segments of today that
    have none yet, so a row may count as both: after a merge, all of them do.
    """

    kind: str | None = None
    word: str = "None"
    rows: int = 0
    found_rows: int = 0
    pending_rows: int = 0

    @property
    def state(self) -> str:
        """Milvus' word, where that is the whole truth: it says Finished while rows are pending."""
        if self.word not in ("Finished", "InProgress"):
            return self.word
        if self.slow_rows:
            return "InProgress"
        return REBUILDING if self.pending_rows else self.word

    @property
    def slow_rows(self) -> int:
        """Rows of closed segments that searches compare one by one."""
        return max(self.rows - self.found_rows, 0)

    def indexed(self, count: int) -> int:
        """Of a collection's `count` rows, those found through the index."""
        return max(count - self.slow_rows - max(count - self.rows, 0), 0)


async def describe(call: MilvusCall) -> Index:
    """What Milvus says of the index; an Index without a kind if there is none."""
    try:
        found = await call("describe_index", call.collection, schema.INDEX_NAME)
    except errors.IndexMissing:
        found = None
    if not found:
        return Index()
    return Index(
        found.get("index_type"),
        found.get("state", "None"),
        found.get("total_rows", 0),
        found.get("indexed_rows", 0),
        found.get("pending_index_rows", 0),
    )


async def build_and_load(call: MilvusCall, spec: CollectionSpec) -> None:
    """Makes a collection without an index searchable."""
    backend = await call.backend()
    await _build(call, _wanted(backend, spec.index_kind), spec, backend)
    await call("load_collection", call.collection)


async def load(call: MilvusCall, spec: CollectionSpec) -> None:
    """Brings the collection into memory; builds the index first if its maker died before that."""
    try:
        await call("load_collection", call.collection)
    except errors.IndexMissing:
        await build_and_load(call, spec)


async def settle(call: MilvusCall) -> None:
    """Has a server make everything written so far part of the index, and waits for it.

    Not for what it then does of its own accord: it merges segments, and builds their index anew,
    for half an hour after a million rows; their rows are found through the old ones meanwhile.
    """
    await call("flush", call.collection)
    pause_s = _PAUSE_S
    while (await describe(call)).slow_rows:
        await asyncio.sleep(pause_s)
        pause_s = min(1.2 * pause_s, _MAX_PAUSE_S)


async def settle_lite(call: MilvusCall, spec: CollectionSpec) -> None:
    """Milvus Lite indexes what was flushed only when the collection is loaded anew."""
    await call("flush", call.collection)
    backend = await call.backend()
    present = (await describe(call)).kind
    wanted = _wanted(backend, spec.index_kind)
    if spec.index_kind == "AUTO":
        rows = (await call("get_collection_stats", call.collection))["row_count"]
        wanted = "HNSW" if rows > _LITE_FLAT_ROWS else present or wanted
    if present == wanted == "FLAT":
        return  # nothing to build: FLAT compares every vector
    await call("release_collection", call.collection)
    for attempt in range(1, _ATTEMPTS + 1):
        if present == wanted:
            break
        try:
            if present is not None:
                await call("drop_index", call.collection, schema.INDEX_NAME)
                present = None
            await _build(call, wanted, spec, backend)
            present = wanted
        except errors.MilvusFailed:
            # A search in another process has loaded the collection between the two requests.
            if attempt == _ATTEMPTS:
                raise
            await call("release_collection", call.collection)
    await call("load_collection", call.collection)


async def _build(call: MilvusCall, kind: str, spec: CollectionSpec, backend: Backend) -> None:
    try:
        await call("create_index", call.collection, schema.index_of(kind, spec.metric))
    except errors.Unsupported:
        # Milvus Lite builds within the request, and cannot be asked for progress afterwards.
        if backend.kind != "lite":
            raise


def _wanted(backend: Backend, kind: IndexKind) -> str:
    """Milvus' name of the index."""
    return _AUTO[backend.kind] if kind == "AUTO" else kind
