"""Requests that read and write rows of one Milvus collection; whose rows is milvus.py's job."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glimpse.errors import Unavailable
from services.common.tasks import concurrently
from services.vectors import filters
from services.vectors.bounds import MAX_WINDOW
from services.vectors.milvus import schema
from services.vectors.milvus.connection import MilvusCall
from services.vectors.store import Consistency, Row, ScoredRow

_MAX_ROWS = 500  # of one request; encoding them holds the event loop for 0.025 s
_MAX_BYTES = 32 * 1024 * 1024  # of one request; Milvus takes 64 MiB
_MAX_IDS = 1_000  # of one request
_SCORE_DECIMALS = 6  # what float32 sums of different order agree on
_LEVELS = {"bounded": "Bounded", "strong": "Strong"}


async def write(call: MilvusCall, rows: Sequence[Row]) -> None:
    """Upserts rows of different ids; none of its requests is left under way when it ends."""
    requests = (_upsert(call, batch) for batch in batches(rows))
    for error in await asyncio.gather(*requests, return_exceptions=True):
        if error is not None:
            raise error


async def _upsert(call: MilvusCall, rows: Sequence[Row]) -> None:
    answer = await call("upsert", call.collection, [schema.entity_of(row) for row in rows])
    if answer.get("upsert_count") != len(rows):
        raise Unavailable(f"Milvus took {answer.get('upsert_count')} of {len(rows)} rows")


async def fetch(
    call: MilvusCall, ids: Sequence[str], fields: Sequence[str], consistency: Consistency
) -> dict[str, dict[str, Any]]:
    answers = await concurrently(
        *(
            call(
                "query",
                call.collection,
                filter=filters.ids_filter(chunk),
                output_fields=["id", *fields],
                consistency_level=_LEVELS[consistency],
            )
            for chunk in _chunks(ids)
        )
    )
    return {
        entity["id"]: schema.fields_of(entity, fields)
        for entities in answers
        for entity in entities
    }


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


async def delete_ids(call: MilvusCall, ids: Sequence[str]) -> None:
    """Deletes rows that are there."""
    for chunk in _chunks(ids):
        await delete(call, filters.ids_filter(chunk))


async def delete(call: MilvusCall, expression: str) -> None:
    """Deletes rows that are there."""
    answer = await call("delete", call.collection, filter=expression)
    deleted = len(answer) if isinstance(answer, list) else answer.get("delete_count", 0)
    # pymilvus' asynchronous delete drops the error that Milvus answers with.
    if not deleted and await count(call, expression):
        raise Unavailable("Milvus did not delete")


async def search(
    call: MilvusCall,
    queries: NDArray[np.float32],
    needed: int,
    fields: Sequence[str],
    consistency: Consistency,
) -> list[list[ScoredRow]]:
    """At least the best `needed` rows for each of the queries [Q, dimension], by (-score, id).

    Milvus orders by score alone, and of equal scores at the window's end it gives any. So one row
    more is asked for, to see whether a group of equal scores reaches beyond; if it does, a wider
    window follows.
    """
    window = min(needed + 1, MAX_WINDOW)
    while True:
        answers = await _search(call, queries, window, fields, consistency)
        if window == MAX_WINDOW or all(_is_whole(hits, needed, window) for hits in answers):
            return answers
        window = min(4 * window, MAX_WINDOW)


async def _search(
    call: MilvusCall,
    queries: NDArray[np.float32],
    window: int,
    fields: Sequence[str],
    consistency: Consistency,
) -> list[list[ScoredRow]]:
    answers = await call(
        "search",
        call.collection,
        list(queries),
        filter=call.expression,
        limit=window,
        output_fields=["id", *fields],
        anns_field="vector",
        search_params=schema.search_parameters(window),
        consistency_level=_LEVELS[consistency],
    )
    return [sorted((_hit(h, fields) for h in hits), key=_by_score_and_id) for hits in answers]


def _hit(hit: Any, fields: Sequence[str]) -> ScoredRow:
    score = round(float(hit["distance"]), _SCORE_DECIMALS)
    return ScoredRow(hit["id"], score, schema.fields_of(hit["entity"], fields))


def _by_score_and_id(hit: ScoredRow) -> tuple[float, str]:
    return -hit.score, hit.id


def _is_whole(hits: Sequence[ScoredRow], needed: int, window: int) -> bool:
    """Whether the first `needed` hits are settled, equal scores included."""
    return len(hits) < window or hits[-1].score < hits[needed - 1].score


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _MAX_IDS):
        yield ids[start : start + _MAX_IDS]


def batches(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """In order, each within the limits of one request."""
    batch: list[Row] = []
    batch_bytes = 0
    for row in rows:
        size_bytes = schema.entity_bytes(row)
        if batch and (len(batch) == _MAX_ROWS or batch_bytes + size_bytes > _MAX_BYTES):
            yield batch
            batch, batch_bytes = [], 0
        batch.append(row)
        batch_bytes += size_bytes
    if batch:
        yield batch
