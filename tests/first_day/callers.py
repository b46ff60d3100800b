"""Callers of every kind that call without a pause, and how their calls end: raw stubs of both
sorts, without retries, and glimpse's two clients, which see to retries themselves."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from glimpse import AsyncClient, Client, ImageFile, Outcome
from glimpse.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from glimpse.indexer.v1 import indexer_pb2, indexer_pb2_grpc
from glimpse.query.v1 import query_pb2, query_pb2_grpc
from tests.robustness.messages import picture

COLLECTION = "pictures"

_TIMEOUT_S = 20.0
_AIO_CALLERS, _THREADS, _CLIENTS = 16, 6, 2
# After a failure: a loop of refused connections would keep the processors from everybody else.
_PAUSE_S = 0.01
_PICTURES = 500
_PICTURE_PAUSE_S = 0.02

# Over all replicas, so that each has calls when it is stopped; and nothing is tried again.
_OPTIONS = [("grpc.lb_policy_name", "round_robin"), ("grpc.enable_retries", 0)]

_numbers = itertools.count()


def text() -> str:
    """A new one each time: nothing answers it but the encoder."""
    return f"number {next(_numbers)}"


def raw_call(service: str, channel: grpc.Channel | grpc.aio.Channel) -> Callable[[], Any]:
    """What a raw caller of a service calls; of an asyncio channel it is awaited."""
    if service == "query":
        search = query_pb2_grpc.QueryStub(channel).Search
        return lambda: search(
            query_pb2.SearchRequest(collection=COLLECTION, text=text()), timeout=_TIMEOUT_S
        )
    if service == "indexer":
        get = indexer_pb2_grpc.IndexerStub(channel).GetCollection
        request = indexer_pb2.GetCollectionRequest(collection=COLLECTION)
        return lambda: get(request, timeout=_TIMEOUT_S)
    encode = encoder_pb2_grpc.EncoderStub(channel).EncodeTexts
    return lambda: encode(encoder_pb2.EncodeTextsRequest(texts=[text()]), timeout=_TIMEOUT_S)


class Callers:
    """All kinds at once against one service, until the block ends.

    `endings` counts how raw calls ended, by kind and status; `errors` is what clients raised.
    """

    def __init__(self, service: str, targets: dict[str, str]) -> None:
        self._service = service
        self._targets = targets
        self._stopped = threading.Event()
        self._counting = threading.Lock()
        self.endings: Counter[tuple[str, str]] = Counter()
        self.errors: list[str] = []

    def __enter__(self) -> Callers:
        works: list[Callable[[], None]] = [lambda: asyncio.run(self._call_on_loop())]
        works += [self._call_in_thread] * _THREADS
        works += [self._use_client] * _CLIENTS + [self._index]
        self._threads = [threading.Thread(target=work) for work in works]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _count(self, kind: str, code: str) -> None:
        with self._counting:
            self.endings[kind, code] += 1

    def _client(self) -> Client:
        return Client(self._targets["query"], self._targets["indexer"], timeout_s=_TIMEOUT_S)

    # Each of these is a thread.

    def _call_in_thread(self) -> None:
        options = [*_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(self._targets[self._service], options=options) as channel:
            call = raw_call(self._service, channel)
            while not self._stopped.is_set():
                try:
                    call()
                    self._count("sync", "OK")
                except grpc.RpcError as error:
                    self._count("sync", error.code().name)  # type: ignore[attr-defined]
                    self._stopped.wait(_PAUSE_S)

    def _use_client(self) -> None:
        with self._client() as client:
            while not self._stopped.wait(_PAUSE_S):
                try:
                    client.search(COLLECTION, text(), limit=3)
                    client.get_collection(COLLECTION)
                    self._count("Client", "OK")
                except Exception as error:
                    self.errors.append(f"Client: {error!r}")

    def _index(self) -> None:
        try:
            with self._client() as client, client.index(COLLECTION, self._pictures()) as ingest:
                for acknowledgement in ingest:
                    if acknowledgement.outcome is Outcome.FAILED:
                        self.errors.append(f"Client.index: {acknowledgement.error!r}")
        except Exception as error:
            self.errors.append(f"Client.index: {error!r}")

    def _pictures(self) -> Iterator[ImageFile]:
        # The same again and again, since a store that grows would search ever slower.
        for number in itertools.cycle(range(_PICTURES)):
            if self._stopped.wait(_PICTURE_PAUSE_S):
                return
            yield ImageFile(id=f"{number}", content=picture(8 + number % 50, 8 + number // 50))

    async def _call_on_loop(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            target = self._targets[self._service]
            channel = await stack.enter_async_context(
                grpc.aio.insecure_channel(target, options=_OPTIONS)
            )
            client = await stack.enter_async_context(
                AsyncClient(self._targets["query"], self._targets["indexer"], timeout_s=_TIMEOUT_S)
            )
            raw = raw_call(self._service, channel)
            callers = [self._repeat(raw) for _ in range(_AIO_CALLERS)]
            callers += [self._use_async_client(client) for _ in range(_CLIENTS)]
            await asyncio.gather(*callers)

    async def _repeat(self, call: Callable[[], Any]) -> None:
        while not self._stopped.is_set():
            try:
                await call()
                self._count("aio", "OK")
            except grpc.aio.AioRpcError as error:
                self._count("aio", error.code().name)
                await asyncio.sleep(_PAUSE_S)

    async def _use_async_client(self, client: AsyncClient) -> None:
        while not self._stopped.is_set():
            try:
                await client.search(COLLECTION, text(), limit=3)
                await client.get_collection(COLLECTION)
                self._count("AsyncClient", "OK")
            except Exception as error:
                self.errors.append(f"AsyncClient: {error!r}")
            await asyncio.sleep(_PAUSE_S)
