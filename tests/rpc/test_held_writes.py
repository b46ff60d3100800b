"""Writes while a generation takes over: what is acknowledged by then is in the one that served, and
what is not goes to its successor."""

from __future__ import annotations

import asyncio

import pytest

from glimpse.indexer.v1 import indexer_pb2 as pb
from services.indexer import serving
from tests.fakes import FakeEncoder
from tests.memory_store import MemoryStore
from tests.rpc.test_import_images import batch, imported, options, row, vector
from tests.rpc.test_indexer import NAME, T, image, opened
from tests.rpc.test_indexer_generations import NEW, carry, failure, made, stored, switch
from tests.waiting import until

_LOOKS = 5  # at what is held, until a call certainly waits for that to end


class WatchedStore(MemoryStore):
    """Counts how often somebody saw that writes are held."""

    looks = 0

    async def get_spec(self, *arguments, **options):
        spec = await super().get_spec(*arguments, **options)
        self.looks += bool(spec.held_until_ms)
        return spec


@pytest.fixture
async def service(monkeypatch):
    """With images 1 and 2, and a generation that has nothing yet."""
    monkeypatch.setattr(serving, "_LOOK_S", 0.001)
    new = FakeEncoder(dimension=24)
    new.fingerprint, new.model_name = NEW, "new"
    async with new.serve() as target, opened(WatchedStore(), others=[target]) as found:
        await found.index([image(1), image(2)])
        await made(found)
        yield found


async def hold(service, hold_ms=60_000, number=0):
    request = pb.HoldWritesRequest(collection=NAME, generation=number, hold_ms=hold_ms)
    return (await service.stub.HoldWrites(request)).held_until_ms


async def waiting(service, call):
    """A task of the call, which waits for writes to be held no more."""
    service.store.looks = 0
    task = asyncio.ensure_future(call)
    await until(lambda: task.done() or service.store.looks >= _LOOKS)
    assert not task.done(), task
    return task


def deletion(service, *ids):
    request = pb.DeleteImagesRequest(collection=NAME, ids=pb.Ids(ids=ids))
    return service.stub.DeleteImages(request)


async def test_an_image_that_is_written_meanwhile_is_acknowledged_when_that_ends(service):
    await hold(service)
    task = await waiting(service, service.index([image(3)]))
    await hold(service, 0)
    acks, _ = await task
    assert acks[3].outcome == pb.OUTCOME_INDEXED
    assert "p3" in await stored(service, NAME)


async def test_an_image_that_is_there_unchanged_is_acknowledged_when_that_ends(service):
    """Its row may be one that was never acknowledged."""
    await hold(service)
    task = await waiting(service, service.index([image(2)]))
    await hold(service, 0)
    acks, _ = await task
    assert acks[2].outcome == pb.OUTCOME_UNCHANGED


@pytest.mark.parametrize("number", [2, 3])
async def test_an_image_that_waited_is_sent_again_where_another_generation_serves(service, number):
    until_ms = await hold(service)
    task = await waiting(service, service.index([image(number)]))
    await switch(service, 1, expected=0, held_until_ms=until_ms)
    assert (await failure(task)).reason == "RESUME"
    acks, _ = await service.index([image(number)])
    assert acks[number].outcome == pb.OUTCOME_INDEXED
    assert set(await stored(service, NAME)) == {f"p{number}"}


async def test_imported_rows_wait_as_well(service):
    model = {"model_name": "fake", "model_fingerprint": service.encoder.fingerprint}
    given = options(**model, dimension=32)
    until_ms = await hold(service)
    rows = batch(1, row(9, vector=vector(9, 32)))
    task = await waiting(service, imported(service, rows, given=given))
    await switch(service, 1, held_until_ms=until_ms)
    assert (await failure(task)).reason == "RESUME"


async def test_a_deletion_that_waited_is_done_in_what_serves_then(service):
    until_ms = await hold(service)
    task = await waiting(service, deletion(service, "p1"))
    await carry(service, [image(1, indexed_at_ms=1)])  # by somebody who had seen it before
    await switch(service, 1, held_until_ms=until_ms)
    await task
    assert set(await stored(service, NAME)) == set()


async def test_writes_go_on_by_themselves_when_nobody_ends_it(service):
    await hold(service, 200)
    acks, _ = await service.index([image(3)])
    assert acks[3].outcome == pb.OUTCOME_INDEXED
    assert service.store.looks > 0


async def test_a_switch_that_needs_writes_to_be_held_is_refused_where_they_are_not(service):
    first = await hold(service)
    second = await hold(service, 4_000)
    for until_ms in (first, second, 1):
        error = await failure(switch(service, 1, held_until_ms=until_ms))
        assert error.reason == "WRITES_NOT_HELD", until_ms
    await switch(service, 1, held_until_ms=await hold(service))
    await switch(service, 1, held_until_ms=1)  # which is done already


async def test_writes_are_held_for_a_minute_at_most_and_to_what_serves(service):
    assert (await failure(hold(service, 60_001))).field == "hold_ms"
    assert (await failure(hold(service, number=1))).reason == "ANOTHER_GENERATION_SERVES"
    assert await hold(service, 0) == 0
    request = pb.HoldWritesRequest(collection="unknown", hold_ms=1)
    error = await failure(service.stub.HoldWrites(request))
    assert error.reason == "COLLECTION_NOT_FOUND"


async def test_nothing_is_carried_over_to_a_generation_that_serves(service):
    await switch(service, 1)
    acks, _ = await service.index(
        [image(1, indexed_at_ms=1)], pb.IndexOptions(collection=f"{NAME}@1")
    )
    assert "serves" in acks[1].error.message
    assert await stored(service, NAME) == {}


async def test_a_deletion_goes_to_a_generation_that_was_made_meanwhile(service):
    """Which may have been filled from what was there before the deletion."""
    await hold(service)
    task = await waiting(service, deletion(service, "p1"))
    await made(service)
    await carry(service, [image(1, indexed_at_ms=1)], 2)
    await hold(service, 0)
    await asyncio.wait_for(task, T)
    assert set(await stored(service, f"{NAME}@2")) == set()
