"""Writes through Milvus Lite so that it loses none; what they write is the store's job."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator

from pymilvus.exceptions import MilvusException

from services.vectors.milvus import errors

_WRITES = ("upsert", "delete", "flush")


class LiteWrites:
    """Lets one write at a time through to each collection of Milvus Lite, and none to any after one
    that its disk refused.

    It locks nothing: beside a flush, a row can get into the log that the flush deletes, and into
    what stays in memory. Each collection has a log and a memory of its own, and a flush takes up to
    a second, for which writes to the others do not wait. Rows whose flush fails are in their log
    alone, where no search finds them, and the next flush that succeeds deletes it; what follows a
    write that was cut short in a log is not read any more. Before all that, a new start reads every
    row that was acknowledged. Owned by one event loop.
    """

    def __init__(self) -> None:
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._is_refused = False

    @contextlib.asynccontextmanager
    async def turn(self, method: str, collection: str) -> AsyncIterator[None]:
        """Around a request to a collection by pymilvus' name of it. Raises DiskFull."""
        if method not in _WRITES:
            yield
            return
        async with self._turns[collection]:
            if self._is_refused:
                raise errors.DiskFull
            try:
                yield
            except MilvusException as error:
                if not errors.is_full_disk(error):
                    raise
                self._is_refused = True
                raise errors.DiskFull from error
