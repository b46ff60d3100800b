"""Writes through Milvus Lite so that it loses none; what they write is the store's job."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from pymilvus.exceptions import MilvusException

from services.vectors.milvus import errors

_WRITES = ("upsert", "delete", "flush")


class LiteWrites:
    """Lets one write at a time through to Milvus Lite, and none after one that its disk refused.

    It locks nothing: beside a flush, a row can get into the log that the flush deletes, and into
    what stays in memory. Rows whose flush fails are in their log alone, where no search finds them,
    and the next flush that succeeds deletes it; what follows a write that was cut short in a log is
    not read any more. Before all that, a new start reads every row that was acknowledged. Owned by
    one event loop.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._is_refused = False

    @contextlib.asynccontextmanager
    async def turn(self, method: str) -> AsyncIterator[None]:
        """Around a request by pymilvus' name of it. Raises DiskFull."""
        if method not in _WRITES:
            yield
            return
        async with self._turn:
            if self._is_refused:
                raise errors.DiskFull
            try:
                yield
            except MilvusException as error:
                if not errors.is_full_disk(error):
                    raise
                self._is_refused = True
                raise errors.DiskFull from error
