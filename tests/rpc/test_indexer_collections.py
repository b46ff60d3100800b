"""The indexer's calls on collections: pages, entries with errors, and calls that gRPC repeats."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from glimpse import AsyncClient, errors
from glimpse.indexer.v1 import indexer_pb2 as pb
from glimpse.transport.status import from_status
from services.common.deadline import Deadline
from services.vectors.records import CollectionSpec
from tests.memory_store import MemoryStore
from tests.rpc.test_indexer import NAME, T, failure, image, opened


class Store(MemoryStore):
    """Fails to describe, or never does, what it is told; tells what was made and dropped."""

    def __init__(self):
        super().__init__()
        self.failing, self.hanging, self.loading = set(), set(), set()
        self.describing = self.most_describing = 0
        self.changed = lambda: None

    async def describe_collection(self, name, *, deadline, load=True, exact=True):
        if load and exact:
            self.loading.add(name)
        self.describing += 1
        self.most_describing = max(self.most_describing, self.describing)
        try:
            await asyncio.sleep(0)
            if name in self.failing:
                raise errors.Unavailable("a segment is lost", reason="MILVUS_FAILED")
            if name in self.hanging:
                await asyncio.sleep(deadline.left_s())
                raise errors.DeadlineExceeded("Milvus did not answer in time")
            return await super().describe_collection(name, deadline=deadline)
        finally:
            self.describing -= 1

    async def create_collection(self, spec, *, deadline):
        await super().create_collection(spec, deadline=deadline)
        self.changed()

    async def drop_collection(self, name, *, deadline):
        await super().drop_collection(name, deadline=deadline)
        self.changed()

    async def fill(self, *names):
        for name in names:
            spec = CollectionSpec(name, 32, "fake", "f" * 64)
            await super().create_collection(spec, deadline=Deadline(T))


@pytest.fixture
async def store():
    return Store()


@pytest.fixture
async def service(store):
    async with opened(store) as made:
        yield made


async def pages(service, size):
    """The names on each page, and how many pages were asked for at most."""
    token, found = "", []
    while True:
        request = pb.ListCollectionsRequest(page_size=size, page_token=token)
        page = await service.stub.ListCollections(request, timeout=T)
        found.append([each.name for each in page.collections])
        token = page.next_page_token
        if not token:
            return found


async def test_collections_come_page_by_page_in_the_order_of_their_names(service, store):
    await store.fill("e", "b", "a", "d", "c")
    assert await pages(service, 2) == [["a", "b"], ["c", "d"], ["e"]]
    assert await pages(service, 5) == [["a", "b", "c", "d", "e"]]
    assert await pages(service, 0) == [["a", "b", "c", "d", "e"]]


async def test_a_page_has_a_hundred_collections_unless_told_otherwise(service, store):
    await store.fill(*(f"c{number:03}" for number in range(201)))
    assert [len(page) for page in await pages(service, 0)] == [100, 100, 1]
    assert 1 < store.most_describing <= 4


async def test_lists_of_many_callers_together_describe_no_more_at_once_than_one(service, store):
    await store.fill(*(f"c{number:03}" for number in range(30)))
    lists = [service.stub.ListCollections(pb.ListCollectionsRequest(), timeout=T) for _ in range(8)]
    assert {len(page.collections) for page in await asyncio.gather(*lists)} == {30}
    assert 1 < store.most_describing <= 4


async def test_what_is_dropped_between_pages_ends_nothing(service, store):
    await store.fill("a", "b", "c")
    request = pb.ListCollectionsRequest(page_size=2)
    token = (await service.stub.ListCollections(request, timeout=T)).next_page_token
    await store.drop_collection("b", deadline=Deadline(T))
    request = pb.ListCollectionsRequest(page_size=2, page_token=token)
    page = await service.stub.ListCollections(request, timeout=T)
    assert [each.name for each in page.collections] == ["c"]


@pytest.mark.parametrize(
    ("request_fields", "field"),
    [
        ({"page_size": 1_001}, "page_size"),
        ({"page_token": "no name"}, "page_token"),
        ({"page_token": "x" * 256}, "page_token"),
    ],
)
async def test_a_page_beyond_a_bound_is_refused(service, request_fields, field):
    request = pb.ListCollectionsRequest(**request_fields)
    error = await failure(service.stub.ListCollections(request, timeout=T))
    assert (type(error), error.field) == (errors.InvalidInput, field)


async def test_a_collection_that_fails_or_hangs_is_an_entry_with_its_error(service, store):
    await store.fill("a", "b", "c")
    store.failing, store.hanging = {"a"}, {"b"}
    listed = await service.stub.ListCollections(pb.ListCollectionsRequest(), timeout=2)
    failing, hanging, good = listed.collections
    assert (failing.name, hanging.name, good.name) == ("a", "b", "c")
    assert from_status(failing.error).reason == "MILVUS_FAILED"
    assert isinstance(from_status(hanging.error), errors.DeadlineExceeded)
    assert (good.dimension, good.HasField("error")) == (32, False)


async def test_listing_asks_for_nothing_to_be_loaded(service, store):
    await store.fill("a", "b")
    await pages(service, 0)
    assert store.loading == set()


async def test_the_client_pages_by_itself_and_shows_errors(service, store):
    await store.fill(*(f"c{number:03}" for number in range(150)))
    store.failing = {"c120"}
    async with AsyncClient(indexer=service.target) as client:
        found = await client.collections()
    assert [each.name for each in found] == [f"c{number:03}" for number in range(150)]
    assert [each.name for each in found if each.error] == ["c120"]
    assert found[120].error.reason == "MILVUS_FAILED"


# Calls whose answer is lost


@contextlib.asynccontextmanager
async def cut(target):
    """The address of a proxy to `target`, and a function that cuts every connection through it."""
    host, port = target.rsplit(":", 1)
    writers, tasks = set(), set()

    async def pump(reader, writer):
        with contextlib.suppress(ConnectionError):
            while content := await reader.read(65_536):
                writer.write(content)
                await writer.drain()

    async def connected(reader, writer):
        far_reader, far_writer = await asyncio.open_connection(host, port)
        writers.update((writer, far_writer))
        tasks.add(asyncio.current_task())
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    def cut_all():
        for writer in writers:
            writer.transport.abort()
        writers.clear()

    proxy = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}", cut_all
    finally:
        cut_all()
        proxy.close()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def losing_the_first_answer(service, store):
    """A client whose connection is cut when the store has made or dropped a collection."""
    async with cut(service.target) as (target, cut_all), AsyncClient(indexer=target) as client:
        changes = []

        def cut_once():
            changes.append(1)
            if len(changes) == 1:
                cut_all()

        store.changed = cut_once
        yield client
        assert changes == [1], "nothing was made or dropped twice"


async def test_a_collection_whose_answer_is_lost_is_made_once_and_for_its_maker(service, store):
    async with losing_the_first_answer(service, store) as client:
        made = await client.create_collection(NAME, metric="COSINE", timeout_s=T)
    assert (made.name, made.metric, made.rows) == (NAME, "COSINE", 0)


async def test_a_drop_whose_answer_is_lost_is_no_error(service, store):
    await store.fill(NAME)
    async with losing_the_first_answer(service, store) as client:
        await client.drop_collection(NAME, timeout_s=T)
    assert await store.list_collections(deadline=Deadline(T)) == []


async def test_who_calls_for_the_first_time_is_told_what_is_there(service, store):
    await store.fill(NAME)
    async with AsyncClient(indexer=service.target) as client:
        with pytest.raises(errors.AlreadyExists):
            await client.create_collection(NAME, timeout_s=T)
        with pytest.raises(errors.NotFound):
            await client.drop_collection("another", timeout_s=T)


@pytest.mark.parametrize("difference", ["none", "metric", "age", "rows"])
async def test_a_repeated_creation_takes_only_what_its_first_attempt_can_have_made(
    service, store, difference
):
    await store.fill(NAME)
    collection = store._generations[NAME, 0]
    if difference == "age":
        collection.created_at_ms -= 3_600_000
    if difference == "rows":
        await service.index([image(1)])
    metric = "COSINE" if difference == "metric" else "IP"
    creation = service.catalog.create(NAME, "AUTO", metric, Deadline(T), repeated=True)
    if difference == "none":
        assert (await creation).name == NAME
    else:
        with pytest.raises(errors.AlreadyExists):
            await creation
