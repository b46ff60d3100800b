"""Rows into a collection past the encoder, as the indexer writes them, while it is searched."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import Any

from pymilvus import MilvusClient

from benchmarks import stacks
from benchmarks.generator import Generator, Job
from benchmarks.scale.world import BLOCK_ROWS, block_rows
from benchmarks.vectors import entity_of
from glimpse.aio import AsyncClient
from glimpse.cli.console import say
from glimpse.cli.index_progress import duration
from glimpse.errors import GlimpseError
from services.common.deadline import Deadline
from services.indexer.retry_budget import RetryBudget
from services.vectors.records import Row
from services.vectors.store import VectorStore

_WRITE_ROWS = 2_000  # as the indexer, of which two are under way
_BARE_EVERY = 5  # of so many pairs of writes, one is bare pymilvus'
_BARE_ROWS = 1_000
_PROBE_S = 5.0
_TIMEOUT_S, _PATIENCE_S = 60.0, 300.0


@dataclass
class Filling:
    """Where a filling is; `writes` are [rows before, rows, seconds], `probes` what was seen."""

    done_rows: int = 0
    writes: list[list[float]] = field(default_factory=list)
    bare_writes: list[list[float]] = field(default_factory=list)
    probes: list[dict[str, float]] = field(default_factory=list)


class Filler:
    """Fills one collection; keeps its place, so that an interrupted run goes on there."""

    def __init__(
        self,
        store: VectorStore,
        milvus: MilvusClient,
        client: AsyncClient,
        generator: Generator,
        milvus_pid: int,
    ) -> None:
        self._store = store
        self._milvus = milvus
        self._client = client
        self._generator = generator
        self._pid = milvus_pid

    async def fill(self, collection: str, rows: int, filling: Filling, keep: Any) -> None:
        """Writes up to `rows` rows, whole blocks; `keep()` after each block."""
        probing = asyncio.create_task(self._probe(collection, filling))
        began_s, began_rows = time.monotonic(), filling.done_rows
        said_s = began_s
        try:
            while filling.done_rows < rows:
                block = await asyncio.to_thread(block_rows, filling.done_rows // BLOCK_ROWS)
                await self._write(collection, block, filling)
                keep()
                now_s = time.monotonic()
                if now_s - said_s > 10 or filling.done_rows >= rows:
                    said_s = now_s
                    per_s = (filling.done_rows - began_rows) / (now_s - began_s)
                    left_s = (rows - filling.done_rows) / per_s
                    say(
                        f"    {filling.done_rows:,} of {rows:,} rows, {per_s:,.0f} rows/s, "
                        f"{duration(left_s)} left"
                    )
        finally:
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)

    async def _write(self, collection: str, block: list[Row], filling: Filling) -> None:
        pair_rows = 2 * _WRITE_ROWS
        for start in range(0, len(block), pair_rows):
            rows = block[start : start + pair_rows]
            before = filling.done_rows
            is_bare = (before // pair_rows) % _BARE_EVERY == _BARE_EVERY - 1
            began_s = time.perf_counter()
            if is_bare:
                await asyncio.to_thread(self._write_bare, collection, rows)
            else:
                await write(self._store, collection, rows)
            seconds = time.perf_counter() - began_s
            writes = filling.bare_writes if is_bare else filling.writes
            writes.append([before, len(rows), round(seconds, 3)])
            filling.done_rows += len(rows)

    def _write_bare(self, collection: str, rows: list[Row]) -> None:
        for start in range(0, len(rows), _BARE_ROWS):
            entities = [entity_of(row) for row in rows[start : start + _BARE_ROWS]]
            self._milvus.upsert(collection, entities, timeout=_TIMEOUT_S)

    async def _probe(self, collection: str, filling: Filling) -> None:
        while True:
            before, began_s = filling.done_rows, time.perf_counter()
            job = Job("vectors", _PROBE_S, collection=collection)
            answers = await asyncio.to_thread(self._generator.run, job)
            seconds = time.perf_counter() - began_s
            if not answers.ok:
                say(f"    no search was answered: {answers.summary()}")
                continue
            with contextlib.suppress(GlimpseError):  # one probe less
                filling.probes.append(
                    {
                        "rows": filling.done_rows,
                        "rows_per_s": round((filling.done_rows - before) / seconds, 1),
                        "p50_ms": round(answers.ms(0.5), 2),
                        "p99_ms": round(answers.ms(0.99), 2),
                        "failed": answers.failed,
                        "get_collection_ms": await timed_ms(
                            self._client.get_collection(collection)
                        ),
                        "list_collections_ms": await timed_ms(self._client.collections()),
                        "rss_mb": round(stacks.rss_mb(self._pid), 1),
                    }
                )


async def write(store: VectorStore, collection: str, rows: list[Row]) -> None:
    """As the indexer does: two writes at once, and again while Milvus is busy with itself."""
    milvus = RetryBudget("Milvus", _PATIENCE_S)

    async def some(start: int) -> None:
        part = rows[start : start + _WRITE_ROWS]
        await milvus.call(lambda: store.upsert(collection, part, deadline=Deadline(_TIMEOUT_S)))

    await asyncio.gather(*map(some, range(0, len(rows), _WRITE_ROWS)))


async def timed_ms(call: Any) -> float:
    """How long an awaited call takes."""
    began_s = time.perf_counter()
    await call
    return round(1000 * (time.perf_counter() - began_s), 2)
