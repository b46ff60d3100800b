"""Streams of rows whose vectors were made before: checked, written in their order, acknowledged."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Sequence,
)
from typing import Any, NamedTuple

from glimpse.errors import as_value
from glimpse.results import Outcome
from services.common.waiting_line import WaitingLine
from services.indexer import row_writes
from services.indexer.import_rows import (
    CheckedBatch,
    GivenRow,
    RejectedRow,
    RowTarget,
    check_rows,
)
from services.indexer.metrics import IndexerMetrics
from services.indexer.retry_budget import RetryBudget
from services.indexer.serving import SharedCheck, check_serving
from services.indexer.settings import IndexerSettings
from services.indexer.stream import stopping
from services.vectors.records import Row
from services.vectors.store import VectorStore

_MAX_WRITES = 2  # at once
_MAX_UNDER_WAY = 3  # batches of a stream that are being written or confirmed


class BatchResult(NamedTuple):
    """What became of a batch: how many rows were written, and which were not."""

    sequence: int
    written: int
    rejected: list[RejectedRow]


Batches = AsyncIterator[tuple[int, Sequence[GivenRow]]]
"""Batches by the numbers that callers gave them."""


class Imports:
    """Runs streams of rows, in the line of the images' streams; owned by the event loop.

    Stop order: drain() has streams end with what they hold, and refuses new ones.
    """

    def __init__(
        self,
        store: VectorStore,
        settings: IndexerSettings,
        metrics: IndexerMetrics,
        line: WaitingLine,
    ) -> None:
        self._store = store
        self._settings = settings
        self._metrics = metrics
        self._line = line
        self._readers: set[asyncio.Task[None]] = set()
        self._draining = False

    async def write(self, target: RowTarget, batches: Batches) -> AsyncGenerator[BatchResult, None]:
        """Writes batches until they end; yields a result for each, in their order.

        One is checked while others are written. Raises Overloaded where as many streams as may be
        are under way; Unavailable where Milvus is away for too long, and, with the reason RESUME,
        when the service stops, or another generation serves; whatever `batches` raises: each after
        the results before it.
        """
        if self._draining:
            raise stopping()
        checked: asyncio.Queue[CheckedBatch | BaseException | None] = asyncio.Queue(1)
        async with self._line.place(None):
            self._metrics.streams.inc()
            reader = asyncio.create_task(self._read(target, batches, checked))
            self._readers.add(reader)
            check = SharedCheck(lambda: self._check_serving(target))
            writes = _Writes(checked, lambda rows: self._upsert(target, rows), check.passed)
            try:
                while (batch := await writes.next_written()) is not None:
                    self._count(batch)
                    yield BatchResult(batch.sequence, len(batch.rows), batch.rejected)
            finally:
                self._readers.discard(reader)
                reader.cancel()
                while not checked.empty():  # or, told to stop before, it waits to put its end there
                    checked.get_nowait()
                await asyncio.gather(reader, return_exceptions=True)
                await writes.close()
                self._metrics.streams.dec()

    def drain(self) -> None:
        """Refuses new streams; the running ones take no more batches."""
        self._draining = True
        for reader in self._readers:
            reader.cancel()

    async def _read(
        self,
        target: RowTarget,
        batches: Batches,
        checked: asyncio.Queue[CheckedBatch | BaseException | None],
    ) -> None:
        end: BaseException | None = None
        try:
            async for sequence, given in batches:
                await checked.put(await check_rows(sequence, given, target))
        except asyncio.CancelledError:
            if not self._draining:
                raise
            end = stopping()
        except Exception as error:
            end = as_value(error)
        await checked.put(end)

    async def _upsert(self, target: RowTarget, rows: Sequence[Row]) -> None:
        def once() -> Coroutine[Any, Any, None]:
            return row_writes.upsert(
                self._store, target.address, rows, self._settings, self._metrics
            )

        await RetryBudget("Milvus", self._settings.retry_budget_s).call(once)

    async def _check_serving(self, target: RowTarget) -> None:
        milvus = RetryBudget("Milvus", self._settings.retry_budget_s)
        timeout_s = self._settings.milvus_timeout_s
        await check_serving(self._store, target.collection, target.address, milvus, timeout_s)

    def _count(self, batch: CheckedBatch) -> None:
        self._metrics.acknowledged[Outcome.INDEXED].inc(len(batch.rows))
        self._metrics.acknowledged[Outcome.FAILED].inc(len(batch.rejected))


class _Writes:
    """Batches of one stream on their way into the store, some at a time: while it takes one, the
    next is made into messages, and those before are confirmed. Of batches that share an id, the
    later one waits.

    Owned by the task of the stream; close() cancels what is under way.
    """

    def __init__(
        self,
        checked: asyncio.Queue[CheckedBatch | BaseException | None],
        upsert: Callable[[Sequence[Row]], Awaitable[None]],
        confirm: Callable[[], Awaitable[None]],
    ) -> None:
        self._checked = checked
        self._upsert = upsert
        self._confirm = confirm
        self._writing = asyncio.Semaphore(_MAX_WRITES)
        self._under_way: deque[tuple[CheckedBatch, asyncio.Task[None]]] = deque()
        self._next: asyncio.Task[CheckedBatch | BaseException | None] | None = None
        self._is_ended = False
        self._end: BaseException | None = None

    async def next_written(self) -> CheckedBatch | None:
        """The next batch, in their order, that the store has taken; None at the end of the stream.

        Raises the end of the stream where that is an error, and what the store raises.
        """
        while True:
            self._begin()
            oldest = self._under_way[0][1] if self._under_way else None
            if oldest is not None and oldest.done():
                batch, _ = self._under_way.popleft()
                oldest.result()
                return batch
            if self._is_ended and oldest is None:
                if self._end is not None:
                    raise self._end
                return None
            awaited = {each for each in (oldest, self._next) if each and not each.done()}
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)

    def _begin(self) -> None:
        """Writes what has come and may go beside what is under way."""
        while not self._is_ended:
            if self._next is None:
                self._next = asyncio.create_task(self._checked.get())
            if not self._next.done():
                return
            batch = self._next.result()
            if not isinstance(batch, CheckedBatch):
                self._is_ended, self._end = True, batch
            elif len(self._under_way) < _MAX_UNDER_WAY and not self._shares_id(batch):
                self._under_way.append((batch, asyncio.create_task(self._write(batch.rows))))
            else:
                return
            self._next = None

    async def _write(self, rows: Sequence[Row]) -> None:
        if rows:
            async with self._writing:
                await self._upsert(rows)
            await self._confirm()

    def _shares_id(self, batch: CheckedBatch) -> bool:
        ids = {row.id for row in batch.rows}
        return any(row.id in ids for other, _ in self._under_way for row in other.rows)

    async def close(self) -> None:
        """Ends what is under way."""
        tasks = [task for _, task in self._under_way]
        for task in (*tasks, *([self._next] if self._next is not None else [])):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
