"""Requests that read and write rows of one Milvus collection; ranking.py searches them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any

from pymilvus.client.types import LoadState

from glimpse.errors import Unavailable
from services.common.event_loop import paced
from services.common.tasks import concurrently
from services.vectors import bounds, filters
from services.vectors.milvus import columns, schema
from services.vectors.milvus.connection import MilvusCall
from services.vectors.records import Consistency, Row

# Of one request, which is written in one turn of the event loop: 10 ms at most.
_MAX_ROWS = 1_000
_MAX_BYTES = 4 * 2**20
# Of one to Milvus Lite, which takes in one request after the other: what others wait for. On a busy
# machine a row takes it 1 ms, one with a thousand keys of metadata 3 ms.
_MAX_LITE_ROWS = 200
_MAX_LITE_BYTES = 2**18
_MAX_IDS = 1_000
MAX_READS = 2  # of a call at once: answers may come together
LEVELS = {"bounded": "Bounded", "strong": "Strong"}


async def write(call: MilvusCall, rows: Sequence[Row]) -> None:
    """Upserts rows of different ids; none of its requests is left under way when it ends.

    Milvus Lite answers one request after the other: there, those of others come in between.
    """
    if (await call.backend()).kind == "lite":
        async for batch in paced(batches(rows, _MAX_LITE_ROWS, _MAX_LITE_BYTES)):
            await _upsert(call, batch, 0)
        return
    cut = [batch async for batch in paced(batches(rows))]
    requests = (_upsert(call, batch, turn) for turn, batch in enumerate(cut))
    for error in await asyncio.gather(*requests, return_exceptions=True):
        if error is not None:
            raise error


async def _upsert(call: MilvusCall, rows: Sequence[Row], turn: int) -> None:
    for _ in range(turn):
        await asyncio.sleep(0)  # each is written in a turn of its own
    answer = await call("upsert", call.collection, columns.upsert_request(call.collection, rows))
    if answer.get("upsert_count") != len(rows):
        raise Unavailable(f"Milvus accepted {answer.get('upsert_count')} of {len(rows)} rows")


async def fetch(
    call: MilvusCall, ids: Sequence[str], fields: Sequence[str], consistency: Consistency
) -> dict[str, dict[str, Any]]:
    chunks = _chunks(ids, bounds.rows_at_once(fields, _MAX_IDS))
    reads = (_rows_by_id(call, chunk, fields, consistency) for chunk in chunks)
    found: dict[str, dict[str, Any]] = {}
    for rows in await concurrently(*reads, at_once=MAX_READS):
        found |= rows
    return found


async def _rows_by_id(
    call: MilvusCall,
    ids: Sequence[str],
    fields: Sequence[str],
    consistency: Consistency,
    *,
    metadata_as_text: bool = False,
) -> dict[str, dict[str, Any]]:
    entities = await call(
        "query",
        call.collection,
        filter=filters.ids_filter(ids),
        output_fields=["id", *fields],
        consistency_level=LEVELS[consistency],
    )
    # Metadata come out of it as objects: 128 of 16 KiB take 20 ms.
    found = columns.rows_of(entities, fields, metadata_as_text=metadata_as_text)
    return {row_id: row async for row_id, row in paced(found)}


async def list_rows(
    call: MilvusCall,
    limit: int,
    fields: Sequence[str],
    after_id: str,
    consistency: Consistency,
    given_per_asked: MutableMapping[str, float],
) -> list[tuple[str, dict[str, Any]]]:
    """The first rows behind an id, in the order of ids, `limit` at most; each is read out of the
    answer in its turn.

    A server gives the first ones where it is told to stop for the best, Milvus Lite where it is
    told that this is an iterator's request; on servers that would put off the latest writes. A
    server asks each segment for as many rows as it was asked for, and merges what they gave until
    one of them has no more: its answer may have fewer rows, and is not the end, or that many of
    every segment. `given_per_asked`, by collection, is what the next request is divided by.
    """
    is_lite = (await call.backend()).kind == "lite"
    ordered = {"iterator": "True"} if is_lite else {"reduce_stop_for_best": True}
    how = {"consistency_level": LEVELS[consistency], **ordered}
    name = call.collection
    asked = max(math.ceil(limit / given_per_asked.get(name, 1.0)), 1)
    rows = await _first_rows(call, asked, fields, after_id, how)
    if len(rows) >= asked:
        given_per_asked[name] = len(rows) / asked
    return rows[:limit]


async def list_some(
    call: MilvusCall,
    ids: Sequence[str],
    limit: int,
    fields: Sequence[str],
    after_id: str,
    consistency: Consistency,
) -> list[tuple[str, dict[str, Any]]]:
    """As list_rows, of these ids alone. They are looked up: a filter would look at every row."""
    rows: list[tuple[str, dict[str, Any]]] = []
    behind = sorted(identity for identity in ids if identity > after_id)
    for chunk in _chunks(behind, bounds.rows_at_once(fields, _MAX_IDS)):
        found = await _rows_by_id(call, chunk, fields, consistency, metadata_as_text=True)
        rows += sorted(found.items(), key=lambda row: row[0])
        if len(rows) >= limit:
            break
    return rows[:limit]


async def _first_rows(
    call: MilvusCall, limit: int, fields: Sequence[str], after_id: str, how: dict[str, Any]
) -> list[tuple[str, dict[str, Any]]]:
    behind = filters.behind_id(after_id)
    entities = await call(
        "query",
        call.collection,
        filter=f"({behind}) and ({call.expression})" if call.expression else behind,
        output_fields=["id", *fields],
        limit=limit,
        **how,
    )
    found = columns.rows_of(entities, fields, metadata_as_text=True)
    rows = [row async for row in paced(found)]
    return sorted(rows, key=lambda row: row[0])


async def count(call: MilvusCall, expression: str = "") -> int:
    """Exactly, with everything written before."""
    answer = await call(
        "query",
        call.collection,
        filter=expression,
        output_fields=["count(*)"],
        consistency_level="Strong",
    )
    return int(answer[0]["count(*)"])


async def estimate(call: MilvusCall) -> tuple[int, bool]:
    """How many rows Milvus takes there to be, and whether they are in memory; looks at none."""
    stats, load = await concurrently(
        call("get_collection_stats", call.collection), call("get_load_state", call.collection)
    )
    return int(stats["row_count"]), load["state"] == LoadState.Loaded


async def ids_of(call: MilvusCall) -> list[str]:
    """Of all rows that the call's filter takes, with everything written before."""
    how = {"output_fields": ["id"], "consistency_level": "Strong"}
    entities = await call("query", call.collection, filter=call.expression, **how)
    return [entity["id"] async for entity in paced(entities)]


async def delete_ids(call: MilvusCall, ids: Sequence[str]) -> None:
    for chunk in _chunks(ids, _MAX_IDS):
        await delete(call, filters.ids_filter(chunk))


async def delete(call: MilvusCall, expression: str) -> None:
    await call("delete", call.collection, filter=expression)


def _chunks(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def batches(
    rows: Sequence[Row], max_rows: int = _MAX_ROWS, max_bytes: int = _MAX_BYTES
) -> Iterator[list[Row]]:
    """In order, each within the limits of one request."""
    batch: list[Row] = []
    batch_bytes = 0
    for row in rows:
        size_bytes = schema.entity_bytes(row)
        if batch and (len(batch) == max_rows or batch_bytes + size_bytes > max_bytes):
            yield batch
            batch, batch_bytes = [], 0
        batch.append(row)
        batch_bytes += size_bytes
    if batch:
        yield batch
