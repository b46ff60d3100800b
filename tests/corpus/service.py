"""An indexer whose encoder and store keep what they are given, so that it is known what pixels a
file has become; and what decoding one takes at most."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np

from glimpse.cli.ports import free_ports
from glimpse.pictures.preprocessing import Preprocessing
from services.common.deadline import Deadline
from services.common.decode_workers import DecodeWorkers
from services.indexer import main as indexer
from services.indexer.settings import IndexerSettings
from services.vectors.records import Row
from tests.corpus.fates import Seen
from tests.fakes import FakeEncoder, vector_of
from tests.memory_store import MemoryStore

_SIZE = 32  # pixels of the model
_DIMENSION = 64


class KeepingEncoder(FakeEncoder):
    """Knows which pixels a vector was made of."""

    def __init__(self) -> None:
        super().__init__(_DIMENSION, _SIZE)
        self.pixels: dict[bytes, bytes] = {}

    def _embedding(self, content: bytes):
        self.pixels[_key(vector_of(content, _DIMENSION))] = content
        return super()._embedding(content)


class KeepingStore(MemoryStore):
    """Knows which rows it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []

    async def upsert(self, name: str, rows: Sequence[Row], *, deadline: Deadline) -> None:
        self.rows += rows
        await super().upsert(name, rows, deadline=deadline)


class Indexing:
    """An indexer that serves."""

    def __init__(self, address: str, encoder: KeepingEncoder, store: KeepingStore) -> None:
        self.address = address
        self._encoder, self._store = encoder, store

    def seen(self) -> dict[str, Seen]:
        """By the paths of the files that were indexed."""
        found = {}
        for row in self._store.rows:
            pixels = np.frombuffer(self._encoder.pixels[_key(row.vector)], np.uint8)
            square = pixels.reshape(_SIZE, _SIZE, 3)
            found[row.uri] = Seen(square, row.width, row.height)
        return found


@contextlib.asynccontextmanager
async def indexing() -> AsyncIterator[Indexing]:
    """Serves until the block ends."""
    encoder, store = KeepingEncoder(), KeepingStore()
    (port,) = free_ports(1)
    async with encoder.serve() as target:
        settings = IndexerSettings(
            listen=f"127.0.0.1:{port}",
            metrics_listen="127.0.0.1:0",
            encoder=target,
            log_format="text",
            drain_s=0,
        )
        serving = asyncio.create_task(indexer.serve(settings, store))
        try:
            yield Indexing(settings.listen, encoder, store)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)  # it ends in order, and nothing else listens
            await serving
            del serving
            gc.collect()  # gRPC's server looks for its event loop when it is collected
            await asyncio.sleep(0)


async def decode_peak_bytes(content: bytes) -> int:
    """The most memory that the process which decodes a file has had, Python and all."""
    workers = DecodeWorkers(IndexerSettings(decode_workers=1))
    try:
        await workers.decode(content, Preprocessing(224), "caller")
        return max(_peak_bytes(each._process.pid) for each in workers._workers)
    finally:
        await workers.close()


def _peak_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def _key(vector) -> bytes:
    return np.round(vector, 4).astype(np.float32).tobytes()
