"""Pages of a collection's rows in the order of their ids."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from services.common.deadline import Deadline
from services.vectors import bounds
from services.vectors.records import Consistency
from services.vectors.store import VectorStore

_MAX_NODES = 64  # of a row's attributes, where a thousand are read in one turn of the event loop

Listed = tuple[str, dict[str, Any]]
"""A row's id, and the fields of it that were asked for."""


@dataclass(frozen=True)
class Listing:
    """What is to be listed: behind an id, the rows that a filter takes."""

    collection: str
    filter: str = ""
    after_id: str = ""
    fields: Sequence[str] = ()


async def rows_of(
    store: VectorStore, listing: Listing, limit: int, deadline: Deadline
) -> AsyncIterator[list[Listed]]:
    """The first `limit` rows, some at a time: the first read tells how large they are, and only
    that one has to see the latest writes."""
    consistency: Consistency = "strong"
    after_id, size = listing.after_id, bounds.rows_at_once(listing.fields, bounds.MAX_LISTED)
    while limit:
        size = min(size, limit)
        rows = await store.list_rows(
            listing.collection,
            size,
            listing.fields,
            deadline=deadline,
            filter=listing.filter,
            after_id=after_id,
            consistency=consistency,
        )
        yield rows
        consistency = "bounded"
        if len(rows) < size:
            return
        limit -= len(rows)
        after_id = rows[-1][0]
        size = bounds.MAX_LISTED if _are_small(rows) else size


def _are_small(rows: Sequence[Listed]) -> bool:
    """Whether so many as there may be can be read in one turn of the event loop."""
    return max(_nodes(fields) for _, fields in rows) <= _MAX_NODES


def _nodes(value: Any) -> int:
    """About how much there is of a value: its numbers, texts by their length, and lists."""
    if isinstance(value, dict):
        return 1 + sum(_nodes(key) + _nodes(item) for key, item in value.items())
    if isinstance(value, list):
        return 1 + sum(map(_nodes, value))
    return 1 + len(value) // 128 if isinstance(value, str) else getattr(value, "size", 1)
