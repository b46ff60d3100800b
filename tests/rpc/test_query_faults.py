"""Query while its peers fail or are slow: what is answered, how fast the rest fails and stops."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2
from prometheus_client import CollectorRegistry

from glimpse import errors
from glimpse.query.v1 import query_pb2 as pb
from glimpse.transport.diagnosis import Diagnosis
from services.query.metrics import QueryMetrics
from tests.memory_store import MemoryStore
from tests.query_service import (
    COLLECTION,
    WORDS,
    failure,
    fake_encoder,
    fill,
    ids,
    query_service,
    rows,
    vector_message,
)
from tests.waiting import until, until_answered

TIMEOUT_S = 20.0
_ROUNDING_S = 0.1  # gRPC rounds a deadline up when it tells the server


class WatchedStore(MemoryStore):
    """Notes the time that each search is given, and awaits `pause`, if set, before it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.pause: Callable[[], Any] | None = None
        self.times_left_s: list[float] = []
        self.in_flight = 0

    async def get_spec(self, name, *, deadline, max_age_s=0.0):
        await self._paused()
        return await super().get_spec(name, deadline=deadline, max_age_s=max_age_s)

    async def search(self, name, vectors, limit, *, deadline, **options):
        self.times_left_s.append(deadline.left_s())
        await self._paused()
        return await super().search(name, vectors, limit, deadline=deadline, **options)

    async def _paused(self):
        self.in_flight += 1
        try:
            if self.pause is not None:
                await self.pause()
        finally:
            self.in_flight -= 1


@pytest.fixture
async def store():
    watched = WatchedStore()
    await fill(watched, rows())
    return watched


@pytest.fixture
async def encoder():
    return fake_encoder()


@pytest.fixture
async def query(store, encoder):
    async with encoder.serve() as target, query_service(store, target) as stub:
        yield stub


def search(stub, timeout=TIMEOUT_S, **fields):
    return stub.Search(pb.SearchRequest(collection=COLLECTION, **fields), timeout=timeout)


async def test_encoder_that_is_down_fails_texts_fast_and_nothing_else_and_may_come_back(
    store, encoder
):
    async with encoder.serve() as target:
        port = int(target.rpartition(":")[2])
    async with query_service(store, target) as query:
        started = asyncio.get_running_loop().time()
        error = await failure(search(query, text="dog", timeout=90))
        assert isinstance(error, errors.Unavailable)
        assert asyncio.get_running_loop().time() - started < 30
        assert len(ids(await search(query, image_id="dog"))) == len(WORDS) - 1
        assert ids(await search(query, vector=vector_message("cat")))[0] == "cat"
        async with encoder.serve(port):
            again = until_answered(lambda: search(query, text="dog"), is_unavailable)
            assert ids(await again)[0] == "dog"
        assert isinstance(await failure(search(query, text="new")), errors.Unavailable)
        assert ids(await search(query, text="dog"))[0] == "dog"  # from the cache


def is_unavailable(error):
    unavailable = grpc.StatusCode.UNAVAILABLE
    return isinstance(error, grpc.aio.AioRpcError) and error.code() is unavailable


async def test_deadline_of_the_caller_ends_a_search_that_waits_for_the_encoder(query, encoder):
    encoder.open.clear()
    error = await failure(search(query, text="dog", timeout=0.3))
    assert isinstance(error, errors.DeadlineExceeded)
    encoder.open.set()
    assert ids(await search(query, text="dog"))[0] == "dog"


async def test_encoder_and_milvus_get_the_callers_time_less_what_is_spent(query, store, encoder):
    spent_s = 0.3
    store.pause = lambda: asyncio.sleep(spent_s)  # describing the collection takes that long
    await search(query, text="dog", timeout=60)
    (for_encoder,), (for_milvus,) = encoder.times_left_s, store.times_left_s
    assert max(for_encoder, for_milvus) <= 60 - spent_s + _ROUNDING_S
    assert min(for_encoder, for_milvus) > 30


async def test_call_without_a_deadline_gets_the_services_own(store, encoder):
    async with (
        encoder.serve() as target,
        query_service(store, target, default_timeout_s=3) as query,
    ):
        await search(query, text="dog", timeout=None)
    assert max(*encoder.times_left_s, *store.times_left_s) <= 3 + _ROUNDING_S


async def test_deadline_of_the_caller_ends_a_search_that_waits_for_milvus(query, store):
    store.pause = asyncio.Event().wait
    error = await failure(search(query, vector=vector_message("dog"), timeout=0.3))
    assert isinstance(error, errors.DeadlineExceeded)


async def test_cancelled_search_cancels_the_search_in_milvus(query, store):
    store.pause = asyncio.Event().wait
    call = search(query, vector=vector_message("dog"))
    await until(lambda: store.in_flight == 1)
    call.cancel()
    await until(lambda: store.in_flight == 0)


async def test_cancelled_search_cancels_the_encoding(query, encoder):
    encoder.open.clear()
    call = search(query, text="dog")
    await until(lambda: encoder.in_flight == 1)
    call.cancel()
    await until(lambda: encoder.in_flight == 0)


@contextlib.asynccontextmanager
async def shared(store, encoder, words):
    """The query service, and searches for `words` whose one call to the encoder is under way."""
    registry = CollectorRegistry()
    async with (
        encoder.serve() as target,
        query_service(store, target, QueryMetrics(registry)) as query,
    ):

        async def start(words, texts):
            calls = [search(query, text=word) for word in words]
            asked = ("glimpse_query_texts_total", {"source": "encoder"})
            await until(lambda: registry.get_sample_value(*asked) == texts)
            return calls

        encoder.open.clear()
        before = []  # as many as go out on their own
        for count, word in enumerate(("first", "second"), start=1):
            before += await start([word], count)
            await until(lambda count=count: encoder.in_flight == count)
        sharing = await start(words, 2 + len(words))
        for call in before:
            call.cancel()
        await until(lambda: encoder.items["calls"] == 3 and encoder.in_flight == 1)
        yield query, sharing


async def test_cancelled_search_leaves_those_alone_who_share_its_call(store, encoder):
    async with shared(store, encoder, ("dog", "cat", "cup")) as (query, (gone, *others)):
        gone.cancel()
        assert ids(await search(query, vector=vector_message("fish")))[0] == "fish"
        encoder.open.set()
        assert [ids(response)[0] for response in await asyncio.gather(*others)] == ["cat", "cup"]
        assert encoder.items["texts"] == 3


async def test_cancelled_searches_cancel_the_encoding_that_they_share(store, encoder):
    async with shared(store, encoder, ("dog", "cat")) as (_, sharing):
        for call in sharing:
            call.cancel()
        await until(lambda: encoder.in_flight == 0)


async def test_searches_do_not_wait_for_a_look_at_why_the_encoder_is_away(monkeypatch):
    looks = []
    monkeypatch.setattr(Diagnosis, "cause", looks.append)
    store = MemoryStore()
    await fill(store, rows())
    words = [pb.BatchQuery(text="dog"), pb.BatchQuery(text="cat")]  # for which limits are asked
    async with query_service(store, "127.0.0.1:1") as query:
        response = await query.BatchSearch(
            pb.BatchSearchRequest(collection=COLLECTION, queries=words), timeout=TIMEOUT_S
        )
    assert [result.error.code for result in response.results] == [code_pb2.UNAVAILABLE] * 2
    assert looks == []
