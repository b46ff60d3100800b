"""Streams of rows whose vectors were made before: checked, written in their order, acknowledged."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glimpse.errors import InvalidInput, as_value
from glimpse.results import Outcome
from services.common.event_loop import paced
from services.common.waiting_line import WaitingLine
from services.indexer import row_writes
from services.indexer.bounds import check_uri
from services.indexer.metrics import IndexerMetrics
from services.indexer.retry_budget import RetryBudget
from services.indexer.serving import check_serving
from services.indexer.settings import IndexerSettings
from services.indexer.stream import stopping
from services.vectors import bounds
from services.vectors.metadata import Metadata
from services.vectors.records import Row, now_ms
from services.vectors.store import VectorStore

_FLOAT_BYTES = 4
_MAX_WRITES = 2  # at once


class GivenRow(NamedTuple):
    """A row as it came, nothing checked; an empty `metadata_json` stands for none."""

    id: str
    vector: bytes  # float32, little-endian
    uri: str
    width: int
    height: int
    format: str
    metadata_json: str
    indexed_at_ms: int
    content_sha256: str


@dataclass(frozen=True)
class RowTarget:
    """Where a stream of rows goes, and what their vectors must be; `address` is that of the
    generation which served the collection when it began."""

    collection: str
    address: str
    dimension: int
    normalise: bool


class RejectedRow(NamedTuple):
    """A row that breaks a bound."""

    position: int  # in its batch
    id: str
    error: InvalidInput


class BatchResult(NamedTuple):
    """What became of a batch: how many rows were written, and which were not."""

    sequence: int
    written: int
    rejected: list[RejectedRow]


class _Checked(NamedTuple):
    sequence: int
    rows: list[Row]
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
        checked: asyncio.Queue[_Checked | BaseException | None] = asyncio.Queue(1)
        async with self._line.place(None):
            self._metrics.streams.inc()
            reader = asyncio.create_task(self._read(target, batches, checked))
            self._readers.add(reader)
            writes = _Writes(checked, lambda rows: self._upsert(target, rows))
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
        checked: asyncio.Queue[_Checked | BaseException | None],
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

        if rows:
            milvus = RetryBudget("Milvus", self._settings.retry_budget_s)
            await milvus.call(once)
            timeout_s = self._settings.milvus_timeout_s
            await check_serving(self._store, target.collection, target.address, milvus, timeout_s)

    def _count(self, batch: _Checked) -> None:
        self._metrics.acknowledged[Outcome.INDEXED].inc(len(batch.rows))
        self._metrics.acknowledged[Outcome.FAILED].inc(len(batch.rejected))


class _Writes:
    """Batches of one stream on their way into the store, some at a time: while it takes one, the
    next is made into messages. Of batches that share an id, the later one waits.

    Owned by the task of the stream; close() cancels what is under way.
    """

    def __init__(
        self,
        checked: asyncio.Queue[_Checked | BaseException | None],
        upsert: Callable[[Sequence[Row]], Coroutine[Any, Any, None]],
    ) -> None:
        self._checked = checked
        self._upsert = upsert
        self._under_way: deque[tuple[_Checked, asyncio.Task[None]]] = deque()
        self._next: asyncio.Task[_Checked | BaseException | None] | None = None
        self._is_ended = False
        self._end: BaseException | None = None

    async def next_written(self) -> _Checked | None:
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
            if not isinstance(batch, _Checked):
                self._is_ended, self._end = True, batch
            elif len(self._under_way) < _MAX_WRITES and not self._shares_id(batch):
                self._under_way.append((batch, asyncio.create_task(self._upsert(batch.rows))))
            else:
                return
            self._next = None

    def _shares_id(self, batch: _Checked) -> bool:
        ids = {row.id for row in batch.rows}
        return any(row.id in ids for other, _ in self._under_way for row in other.rows)

    async def close(self) -> None:
        """Ends what is under way."""
        tasks = [task for _, task in self._under_way]
        for task in (*tasks, *([self._next] if self._next is not None else [])):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def check_rows(sequence: int, given: Sequence[GivenRow], target: RowTarget) -> _Checked:
    """The rows that can be written, and those that break a bound; in turns of the event loop."""
    vectors = _vectors_of(given, target.dimension)
    norms = bounds.lengths(vectors)
    if target.normalise:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            vectors = (vectors / norms[:, None]).astype(np.float32)
        fit = np.isfinite(norms) & (norms > 0)
    else:
        fit = bounds.are_unit(norms)
    read_at_ms = now_ms()
    checked = _Checked(sequence, [], [])
    async for index, row in paced(enumerate(given)):
        try:
            made = _row_of(row, vectors[index], read_at_ms)
            bounds.check_row(made, target.dimension)
            if len(row.vector) != _FLOAT_BYTES * target.dimension:
                raise _wrong_length(row, target.dimension)
            if not fit[index]:
                raise _not_unit(float(norms[index]), normalise=target.normalise)
        except InvalidInput as error:
            known_id = row.id[: bounds.MAX_ID_CHARACTERS]
            told = as_value(error.at(f"images[{index}].{error.field}"))
            checked.rejected.append(RejectedRow(index, known_id, told))
        else:
            checked.rows.append(made)
    return checked


def _vectors_of(given: Sequence[GivenRow], dimension: int) -> NDArray[np.float32]:
    """float32 [rows, dimension]; one of another length is zero."""
    size_bytes = _FLOAT_BYTES * dimension
    nothing = bytes(size_bytes)
    content = b"".join(row.vector if len(row.vector) == size_bytes else nothing for row in given)
    return np.frombuffer(content, "<f4").astype(np.float32, copy=False).reshape(-1, dimension)


def _row_of(row: GivenRow, vector: NDArray[np.float32], read_at_ms: int) -> Row:
    """Raises InvalidInput for a uri or metadata beyond a bound; the rest is checked later."""
    try:
        check_uri(row.uri)
    except InvalidInput as error:
        raise error.at("uri") from None
    return Row(
        id=row.id,
        vector=vector,
        uri=row.uri,
        content_sha256=row.content_sha256,
        width=row.width,
        height=row.height,
        format=row.format,
        indexed_at_ms=row.indexed_at_ms or read_at_ms,
        metadata=Metadata.of_text(row.metadata_json, "metadata_json"),
    )


def _wrong_length(row: GivenRow, dimension: int) -> InvalidInput:
    return InvalidInput(
        "vector",
        f"must have {dimension} numbers of {_FLOAT_BYTES} bytes; it has {len(row.vector)} bytes",
    )


def _not_unit(norm: float, *, normalise: bool) -> InvalidInput:
    wanted = "finite and not zero" if normalise else "finite and of unit length"
    return InvalidInput("vector", f"must be {wanted}; its length is {norm:.6g}")
