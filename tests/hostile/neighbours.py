"""The well-behaved callers of every service, in a process of their own, and how long they wait.

    python -m tests.hostile.neighbours '{"query": "127.0.0.1:50053", ...}' COLLECTION SECONDS

prints a line for each answer. Each caller asks again and again, one call at a time; what is refused
for the moment he asks again, as clients do, and that counts as one wait. The parent's side is
Neighbours: one thread reads the lines.
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.report import percentile
from benchmarks.texts import new_texts
from glimpse.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from glimpse.indexer.v1 import indexer_pb2, indexer_pb2_grpc
from glimpse.query.v1 import query_pb2, query_pb2_grpc
from glimpse.transport.channel import open_aio_channel
from tests.robustness.messages import picture

CHECK = "Check"
"""The health check: waits for nothing but the service's event loop."""

PATIENCE_S = 20.0
"""After which an unanswered call is given up, and counts as having waited so long."""

PERIOD_S = 0.1
"""Between two calls of a caller: a stall may have lasted so much longer than seen."""

_CHECK_PERIOD_S = 0.025
_RETRY_S = 0.02
_TRY_AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
_LOOK_S = 0.01

Ask = Callable[[float], Awaitable[Any]]
"""One call, within so many seconds."""


@dataclass(frozen=True)
class Answered:
    """A call's begin and end, by the clock that all processes share; `refusals` came before."""

    begin_s: float
    end_s: float
    status: str
    refusals: int


class Neighbours:
    """The process, from the side of who wants to know how long they wait.

    Without a collection, they do nothing but check the services' health.
    """

    def __init__(
        self, addresses: Mapping[str, str], collection: str = "", period_s: float = PERIOD_S
    ) -> None:
        self._command = [sys.executable, "-m", __spec__.name, json.dumps(dict(addresses))]
        self._command += [collection, str(period_s)]
        self._period_s = period_s
        self._answers: dict[str, list[Answered]] = {}
        self._usual_ms: dict[str, float] = {}
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._reader = threading.Thread(target=self._read, name="neighbours")

    def __enter__(self) -> Neighbours:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait()
        self._reader.join()

    def learn_usual_ms(self, seconds: float) -> dict[str, float]:
        """Watches for so long what each of them mostly waits, while nobody attacks."""
        begin_s = time.monotonic()
        time.sleep(seconds)  # time itself is what is waited for
        waits_ms: dict[str, list[float]] = {name: [] for name in self._names()}
        for name, answer in self._since(begin_s):
            waits_ms[name].append(1000 * (answer.end_s - answer.begin_s))
        self._usual_ms = {name: percentile(waits, 0.5) for name, waits in waits_ms.items()}
        return dict(self._usual_ms)

    def worst_ms(self, since_s: float) -> dict[str, float]:
        """The longest wait of each that ended since then, or has not ended yet."""
        worst = {name: 1000 * self._open_s(name, since_s) for name in self._names()}
        for name, answer in self._since(since_s):
            worst[name] = max(worst[name], 1000 * (answer.end_s - answer.begin_s))
        return worst

    def troubles(self, since_s: float) -> Counter[str]:
        """Calls that failed, by caller and status, and those that were refused before."""
        troubles: Counter[str] = Counter()
        for name, answer in self._since(since_s):
            if answer.status != "OK":
                troubles[f"{name} {answer.status}"] += 1
            if answer.refusals:
                troubles[f"{name} refused"] += answer.refusals
        return troubles

    def await_calm(self, since_s: float, timeout_s: float) -> bool:
        """Waits until each is answered about as usual again; False if that does not come."""
        ends_s = time.monotonic() + timeout_s
        while not (self._names() and all(self._is_calm(name, since_s) for name in self._names())):
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError("the neighbours have died; what they wrote stands above")
            if time.monotonic() > ends_s:
                return False
            time.sleep(_LOOK_S)
        return True

    def _is_calm(self, name: str, since_s: float) -> bool:
        bound_s = max(0.1, 2 * self._usual_ms.get(name, 1_000) / 1000)
        with self._lock:
            last = self._answers[name][-1]
        return last.begin_s >= since_s and last.end_s - last.begin_s <= bound_s

    def _open_s(self, name: str, since_s: float) -> float:
        """How long a call has been open at least, if one has been since then."""
        with self._lock:
            answers = self._answers[name]
        last_s = answers[-1].end_s if answers else since_s
        return max(0.0, time.monotonic() - max(last_s + self._period_s, since_s))

    def _names(self) -> list[str]:
        with self._lock:
            return list(self._answers)

    def _since(self, since_s: float) -> list[tuple[str, Answered]]:
        found = []
        with self._lock:
            for name, answers in self._answers.items():
                for answer in reversed(answers):
                    if answer.end_s < since_s:
                        break
                    found.append((name, answer))
        return found

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if not line.endswith("\n"):
                return  # ended while it wrote
            name, begin_s, end_s, status, refusals = line.split()
            answer = Answered(float(begin_s), float(end_s), status, int(refusals))
            with self._lock:
                self._answers.setdefault(name, []).append(answer)


class Caller:
    """One kind of call, made again and again until the process ends."""

    def __init__(self, name: str, ask: Ask, period_s: float) -> None:
        self._name, self._ask, self._period_s = name, ask, period_s

    async def call_on(self) -> None:
        while True:
            begin_s = time.monotonic()
            status, refusals = await self._wait(begin_s)
            end_s = time.monotonic()
            print(self._name, begin_s, end_s, status, refusals, flush=True)
            await asyncio.sleep(begin_s + self._period_s - end_s)

    async def _wait(self, begin_s: float) -> tuple[str, int]:
        refusals = 0
        while (left_s := begin_s + PATIENCE_S - time.monotonic()) > 0:
            try:
                await self._ask(left_s)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _TRY_AGAIN:
                    return error.code().name, refusals
                refusals += 1
                await asyncio.sleep(_RETRY_S)
            else:
                return "OK", refusals
        return "DEADLINE_EXCEEDED", refusals


def _callers(addresses: Mapping[str, str], collection: str, period_s: float) -> list[Caller]:
    """Each with a connection of its own."""
    callers = [
        Caller(f"{service}.{CHECK}", _check(address), _CHECK_PERIOD_S)
        for service, address in addresses.items()
    ]
    if collection:
        asks = (*_encoder(addresses), *_indexer(addresses, collection))
        asks += (_search(addresses, collection),)
        callers += [Caller(name, ask, period_s) for name, ask in asks]
    return callers


def _check(address: str) -> Ask:
    stub = health_pb2_grpc.HealthStub(_channel(address))
    request = health_pb2.HealthCheckRequest()
    return lambda timeout_s: stub.Check(request, timeout=timeout_s)  # type: ignore[attr-defined]


def _encoder(addresses: Mapping[str, str]) -> list[tuple[str, Ask]]:
    stub = encoder_pb2_grpc.EncoderStub(_channel(addresses["encoder"]))
    texts = new_texts(1)

    def encode(timeout_s: float) -> Awaitable[Any]:
        return stub.EncodeTexts(
            encoder_pb2.EncodeTextsRequest(texts=[next(texts)]), timeout=timeout_s
        )

    return [("encoder.EncodeTexts", encode)]


def _indexer(addresses: Mapping[str, str], collection: str) -> list[tuple[str, Ask]]:
    stub = indexer_pb2_grpc.IndexerStub(_channel(addresses["indexer"]))
    batch_stub = indexer_pb2_grpc.IndexerStub(_channel(addresses["indexer"]))
    get = indexer_pb2.GetCollectionRequest(collection=collection)
    batch = indexer_pb2.BatchIndexImagesRequest(
        options=indexer_pb2.IndexOptions(collection=collection, force=True),
        images=[indexer_pb2.Image(id="neighbour", content=picture())],
    )
    return [
        ("indexer.GetCollection", lambda timeout_s: stub.GetCollection(get, timeout=timeout_s)),
        (
            "indexer.BatchIndexImages",
            lambda timeout_s: batch_stub.BatchIndexImages(batch, timeout=timeout_s),
        ),
    ]


def _search(addresses: Mapping[str, str], collection: str) -> tuple[str, Ask]:
    stub = query_pb2_grpc.QueryStub(_channel(addresses["query"]))
    texts = new_texts(2)

    def search(timeout_s: float) -> Awaitable[Any]:
        return stub.Search(
            query_pb2.SearchRequest(collection=collection, text=next(texts)), timeout=timeout_s
        )

    return "query.Search", search


def _channel(address: str) -> grpc.aio.Channel:
    return open_aio_channel(address, retry=False)


async def _serve(addresses: Mapping[str, str], collection: str, period_s: float) -> None:
    callers = _callers(addresses, collection, period_s)
    gc.freeze()
    gc.disable()  # a collection would be measured as a service's wait
    await asyncio.gather(*(caller.call_on() for caller in callers))


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
