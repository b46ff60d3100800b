"""What the steps of a run have in common: a server whose files stay, the services, callers."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from pymilvus import MilvusClient

from benchmarks import pixmaps, stacks
from benchmarks.cpu_time import Usage
from benchmarks.generator import Generator, Job
from benchmarks.scale import room
from benchmarks.tutorial import connect
from glimpse.aio import AsyncClient
from glimpse.cli.ports import Ports
from glimpse.errors import GlimpseError
from services.common.deadline import Deadline
from services.vectors.milvus.store import MilvusStore
from tests.backends import MilvusLite, MilvusServer

SMALL, LARGE = "scale_small", "scale"
_START_S, _TRY_S = 180.0, 15.0


@dataclass(frozen=True)
class Stage:
    """What the steps have in common."""

    options: argparse.Namespace
    server: MilvusServer | MilvusLite
    store: MilvusStore
    milvus: MilvusClient
    client: AsyncClient
    generator: Generator
    query_pid: int
    indexer: str  # its address
    indexer_metrics: str
    indexer_pid: int

    @property
    def pids(self) -> dict[str, int]:
        return {"milvus": self.server.pid, "query": self.query_pid}

    async def load(self, what: str, collection: str, **more: Any) -> dict[str, Any]:
        """A closed loop of callers: its rate, its percentiles, how its calls ended, and what one
        took of the processors, in ms."""
        job = Job(what, more.pop("seconds", self.options.seconds), collection=collection, **more)
        before = Usage.now(self.pids)
        answers = await asyncio.to_thread(self.generator.run, job)
        usage = before.until(Usage.now(self.pids), len(answers.ok) + answers.failed)
        return answers.summary() | {"processor_ms": usage}

    def rss_mb(self) -> float:
        """Of the server."""
        return round(stacks.rss_mb(self.server.pid), 1)


@contextlib.asynccontextmanager
async def running(options: argparse.Namespace, *, goes_on: bool) -> AsyncIterator[Stage]:
    """The server, the services between a stub encoder and it, and callers; unless it goes on, the
    server begins empty."""
    folder = stacks.OUTPUT / f"store-scale-{options.store}"
    if not goes_on:
        shutil.rmtree(folder, ignore_errors=True)
    port = Ports.free().encoder
    address = f"127.0.0.1:{port}"
    stub = ["benchmarks.stub_encoder", str(port), str(pixmaps.SIZE)]
    is_server = options.store == "milvus"
    server = MilvusServer(folder, settings=room.SETTINGS) if is_server else MilvusLite(folder)
    with contextlib.ExitStack() as processes:
        server.start()
        processes.callback(server.stop)
        store = MilvusStore(server.uri)
        await _ready(server, store)
        processes.enter_context(stacks.running_process(stub, address))
        environment = {"INDEXER_ENCODER": address, "QUERY_ENCODER": address}
        # Another benchmark, run beside hours of this one, would empty the folder of all others.
        name = f"stack-scale-{options.store}"
        stack = processes.enter_context(stacks.running_stack(server.uri, "demo", environment, name))
        generator = processes.enter_context(
            Generator(address, stack.query, LARGE, seed=3, milvus_uri=server.uri)
        )
        milvus = connect(server.uri)
        try:
            async with AsyncClient(stack.query, stack.indexer, timeout_s=60) as client:
                pid, indexer = stack.processes["query"].pid, stack.processes["indexer"].pid
                indexer_metrics = f"127.0.0.1:{stack.options.ports.indexer_metrics}"
                yield Stage(
                    *(options, server, store, milvus, client, generator, pid),
                    *(stack.indexer, indexer_metrics, indexer),
                )
        finally:
            milvus.close()
            await store.close()


async def _ready(server: MilvusServer | MilvusLite, store: MilvusStore) -> None:
    """One that was killed ends at its start until its session in etcd has run out."""
    ends_s = time.monotonic() + _START_S
    while True:
        try:
            await store.ready(deadline=Deadline(_TRY_S))
        except GlimpseError:
            if time.monotonic() > ends_s:
                raise
            if not server.is_running:
                server.start()
        else:
            return
