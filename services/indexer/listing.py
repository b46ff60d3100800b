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
_MAX_REMEMBERED = 1_024  # lists whose rows' sizes are known


@dataclass(frozen=True)
class Listing:
    """What is to be listed: behind an id, the first `max_rows` that a filter takes, or that have
    one of some ids, as long as they have `max_bytes` together."""

    collection: str
    filter: str
    ids: Sequence[str] | None
    after_id: str
    fields: tuple[str, ...]
    max_rows: int
    max_bytes: int
    consistency: Consistency = "strong"


class Lists:
    """Pages of lists; remembers how large the rows of a collection were on the page before, so that
    the first read of the next one need not be small. Owned by the event loop."""

    def __init__(self, store: VectorStore) -> None:
        self._store = store
        self._row_bytes: dict[tuple[str, tuple[str, ...]], int] = {}

    async def page_of(
        self,
        listing: Listing,
        content_of: Callable[[str, dict[str, Any]], bytes],
        deadline: Deadline,
    ) -> tuple[list[bytes], str]:
        """The rows, each as `content_of` writes it by id and fields, and the id that the next page
        begins behind; "" where no row is left.

        There is one row at least, if there is any. Only the first read has to see the latest
        writes. A page ends before its bound where there is no room for as many rows as one read
        gives.
        """
        page = _Page(listing.max_bytes)
        after_id, consistency = listing.after_id, listing.consistency
        read_rows = self._first_rows(listing)
        while True:
            read_rows = min(read_rows, listing.max_rows - len(page.contents))
            rows = await self._store.list_rows(
                listing.collection,
                read_rows,
                listing.fields,
                deadline=deadline,
                filter=listing.filter,
                ids=listing.ids,
                after_id=after_id,
                consistency=consistency,
            )
            if not rows:
                return self._end(listing, page, "")
            async for identity, fields in paced(rows):
                if not page.add(content_of(identity, fields)):
                    return self._end(listing, page, after_id)
                after_id = identity
            read_rows = min(bounds.MAX_LISTED, max(1, _MAX_READ_BYTES // page.largest_bytes))
            if len(page.contents) == listing.max_rows or page.room_rows < read_rows:
                return self._end(listing, page, after_id)
            consistency = "bounded"

    def _first_rows(self, listing: Listing) -> int:
        row_bytes = self._row_bytes.pop((listing.collection, listing.fields), 0)
        if not row_bytes:
            return bounds.rows_at_once(listing.fields, bounds.MAX_LISTED)
        most_bytes = min(_MAX_READ_BYTES, listing.max_bytes)
        return min(bounds.MAX_LISTED, max(1, most_bytes // row_bytes))

    def _end(self, listing: Listing, page: _Page, next_id: str) -> tuple[list[bytes], str]:
        if next_id:
            while len(self._row_bytes) >= _MAX_REMEMBERED:
                del self._row_bytes[next(iter(self._row_bytes))]
            self._row_bytes[listing.collection, listing.fields] = page.largest_bytes
        return page.contents, next_id


class _Page:
    """Rows as they are written, within a bound but for the first one."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self.contents: list[bytes] = []
        self.largest_bytes = 1

    def add(self, content: bytes) -> bool:
        """Whether there was room for it."""
        row_bytes = len(content) + _ENTRY_BYTES
        if self.contents and self._size_bytes + row_bytes > self._max_bytes:
            return False
        self.contents.append(content)
        self._size_bytes += row_bytes
        self.largest_bytes = max(self.largest_bytes, row_bytes)
        return True

    @property
    def room_rows(self) -> int:
        """How many more of the same size there is room for."""
        return (self._max_bytes - self._size_bytes) * len(self.contents) // self._size_bytes
