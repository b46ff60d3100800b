"""Builds a collection's vector index and brings it into memory; when to do so is milvus.py's job.

No two of these may run at a time for one collection.
"""

from __future__ import annotations

import asyncio
from typing import Any

from services.vectors.milvus import errors, schema
from services.vectors.milvus.connection import Backend, MilvusCall
from services.vectors.records import IndexKind

# Up to here Milvus Lite is fastest with FLAT, beyond it with HNSW.
_LITE_FLAT_ROWS = 10_000
_PAUSE_S = 0.25
_ATTEMPTS = 5
_AUTO = {"lite": "FLAT", "server": "HNSW", "cloud": "AUTOINDEX"}


async def describe(call: MilvusCall) -> dict[str, Any]:
    """What Milvus says of the index; empty if there is none."""
    try:
        return await call("describe_index", call.collection, schema.INDEX_NAME) or {}
    except errors.IndexMissing:
        return {}


def state_of(index: dict[str, Any]) -> str:
    """The state in Milvus' words, of what describe() gave."""
    if index.get("pending_index_rows", 0):
        return "InProgress"  # Milvus 2.3 says Finished
    return str(index.get("state", "None"))


async def build_and_load(call: MilvusCall, marks: schema.Marks) -> None:
    """Makes a collection without an index searchable."""
    backend = await call.backend()
    await _build(call, _wanted(backend, marks.index_kind), marks, backend)
    await call("load_collection", call.collection)


async def load(call: MilvusCall, marks: schema.Marks) -> None:
    """Brings the collection into memory; builds the index first if its maker died before that."""
    try:
        await call("load_collection", call.collection)
    except errors.IndexMissing:
        await build_and_load(call, marks)


async def settle(call: MilvusCall, marks: schema.Marks) -> None:
    """Makes everything written so far part of the index."""
    await call("flush", call.collection)
    backend = await call.backend()
    if backend.kind == "lite":
        await _settle_lite(call, marks, backend)
        return
    while (await describe(call)).get("pending_index_rows", 0):  # noqa: ASYNC110
        await asyncio.sleep(_PAUSE_S)


async def _settle_lite(call: MilvusCall, marks: schema.Marks, backend: Backend) -> None:
    """Milvus Lite indexes what was flushed only when the collection is loaded anew."""
    present = (await describe(call)).get("index_type")
    wanted = _wanted(backend, marks.index_kind)
    if marks.index_kind == "AUTO":
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
            await _build(call, wanted, marks, backend)
            present = wanted
        except errors.MilvusFailed:
            # A search in another process has loaded the collection between the two requests.
            if attempt == _ATTEMPTS:
                raise
            await call("release_collection", call.collection)
    await call("load_collection", call.collection)


async def _build(call: MilvusCall, kind: str, marks: schema.Marks, backend: Backend) -> None:
    try:
        await call("create_index", call.collection, schema.index_of(kind, marks.metric))
    except errors.Unsupported:
        # Milvus Lite builds within the request, and cannot be asked for progress afterwards.
        if backend.kind != "lite":
            raise


def _wanted(backend: Backend, kind: IndexKind) -> str:
    """Milvus' name of the index."""
    return _AUTO[backend.kind] if kind == "AUTO" else kind
