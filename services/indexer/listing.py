"""Pages of a collection's rows in the order of their ids; what a row is in a message, its caller
says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from services.common.deadline import Deadline
from services.common.event_loop import paced
from services.vectors import bounds
from services.vectors.records import Consistency
from services.vectors.store import VectorStore

# Of one read of the store, whose answer is parsed in one turn of the event loop.
_MAX_READ_BYTES = 4 * 2**20
# Around an entry of a repeated field, in a message of some megabytes.
_ENTRY_BYTES = 8


@dataclass(frozen=True)
class Listing:
    """What is to be listed: behind an id, the first `max_rows` that a filter takes, as long as they
    have `max_bytes` together."""

    collection: str
    filter: str
    after_id: str
    fields: Sequence[str]
    max_rows: int
    max_bytes: int
    consistency: Consistency = "strong"


async def page_of(
    store: VectorStore,
    listing: Listing,
    content_of: Callable[[str, dict[str, Any]], bytes],
    deadline: Deadline,
) -> tuple[list[bytes], str]:
    """The rows, each as `content_of` writes it by id and fields, and the id that the next page
    begins behind; "" where no row is left.

    There is one row at least, if there is any. The first read tells how large rows are, and only
    that one has to see the latest writes.
    """
    contents: list[bytes] = []
    size_bytes, after_id, consistency = 0, listing.after_id, listing.consistency
    read_rows = bounds.rows_at_once(listing.fields, bounds.MAX_LISTED)
    while True:
        read_rows = min(read_rows, listing.max_rows - len(contents))
        rows = await store.list_rows(
            listing.collection,
            read_rows,
            listing.fields,
            deadline=deadline,
            filter=listing.filter,
            after_id=after_id,
            consistency=consistency,
        )
        largest_bytes = 1
        async for identity, fields in paced(rows):
            content = content_of(identity, fields)
            row_bytes = len(content) + _ENTRY_BYTES
            if contents and size_bytes + row_bytes > listing.max_bytes:
                return contents, after_id
            contents.append(content)
            size_bytes += row_bytes
            largest_bytes = max(largest_bytes, row_bytes)
            after_id = identity
        if len(rows) < read_rows:
            return contents, ""
        if len(contents) == listing.max_rows:
            return contents, after_id
        fitting = (listing.max_bytes - size_bytes) // (size_bytes // len(contents)) + 1
        read_rows = min(fitting, bounds.MAX_LISTED, max(1, _MAX_READ_BYTES // largest_bytes))
        consistency = "bounded"
