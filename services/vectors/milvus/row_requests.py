"""Requests that read and write rows of one Milvus collection; ranking.py searches them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from glimpse.errors import Unavailable
from services.common.tasks import concurrently
from services.vectors import filters
from services.vectors.milvus import schema
from services.vectors.milvus.connection import MilvusCall
from services.vectors.records import Consistency, Row

_MAX_ROWS = 500  # of one request; encoding them holds the event loop for 0.025 s
_MAX_BYTES = 32 * 1024 * 1024  # of one request; Milvus takes 64 MiB
_MAX_IDS = 1_000  # of one request
LEVELS = {"bounded": "Bounded", "strong": "Strong"}


async def write(call: MilvusCall, rows: Sequence[Row]) -> None:
    """Upserts rows of different ids; none of its requests is left under way when it ends."""
    requests = (_upsert(call, batch) for batch in batches(rows))
    for error in await asyncio.gather(*requests, return_exceptions=True):
        if error is not None:
            raise error


async def _upsert(call: MilvusCall, rows: Sequence[Row]) -> None:
    answer = await call("upsert", call.collection, [schema.entity_of(row) for row in rows])
    if answer.get("upsert_count") != len(rows):
        raise Unavailable(f"Milvus accepted {answer.get('upsert_count')} of {len(rows)} rows")


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
                consistency_level=LEVELS[consistency],
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
