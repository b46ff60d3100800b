"""The indexer's generations through its contract: making them, filling them, and writing on while
another one takes over."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import code_pb2

from glimpse import AsyncClient, ImageFile, errors
from glimpse.indexer.v1 import indexer_pb2 as pb
from glimpse.results import Outcome
from glimpse.transport.status import from_rpc_error
from services.common.deadline import Deadline
from services.indexer import generations
from services.vectors.filters import Comparison
from tests.fakes import FakeEncoder
from tests.memory_store import MemoryStore
from tests.rpc.test_indexer import NAME, OPTIONS, T, drawn, file, image, opened

NEW = "e" * 64


@pytest.fixture
async def service():
    """An indexer with a collection of two images, and an encoder of another model besides."""
    new = FakeEncoder(dimension=24)
    new.fingerprint, new.model_name = NEW, "new"
    async with new.serve() as target, opened(others=[target]) as made:
        await made.index([image(1), image(2)])
        yield made


async def made(service, fingerprint=NEW) -> pb.Generation:
    request = pb.CreateGenerationRequest(collection=NAME, model_fingerprint=fingerprint)
    return (await service.stub.CreateGeneration(request)).generation


async def carry(service, images, number=1):
    """Outcomes by sequence."""
    options = pb.IndexOptions(collection=f"{NAME}@{number}")
    acks, _ = await service.index(images, options)
    return {sequence: ack.outcome for sequence, ack in acks.items()}


async def switch(service, number, **fields):
    request = pb.SwitchGenerationRequest(collection=NAME, generation=number, **fields)
    return (await service.stub.SwitchGeneration(request)).generation


async def numbers(service):
    listed = await service.stub.ListGenerations(pb.ListGenerationsRequest(collection=NAME))
    return [(each.number, each.serving) for each in listed.generations]


async def failure(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value, "the indexer")


async def stored(service, address, *fields):
    rows = await service.store.list_rows(address, 100, fields, deadline=Deadline(T))
    return dict(rows)


async def test_a_generation_is_made_for_a_model_that_an_encoder_runs(service):
    generation = await made(service)
    assert (generation.number, generation.serving) == (1, False)
    assert generation.collection.name == f"{NAME}@1"
    assert (generation.collection.model_name, generation.collection.dimension) == ("new", 24)
    assert (await made(service, "")).collection.model_name == "fake"
    assert await numbers(service) == [(0, True), (1, False), (2, False)]
    error = await failure(made(service, "c" * 64))
    assert error.reason == "MODEL_MISMATCH"


async def test_a_collection_has_no_more_generations_than_are_listed_at_once(service, monkeypatch):
    monkeypatch.setattr(generations, "MAX_GENERATIONS", 2)
    await made(service)
    assert (await failure(made(service))).reason == "TOO_MANY_GENERATIONS"


async def test_a_repeated_creation_takes_what_its_first_attempt_made(service):
    await made(service)
    create = service.generations.create
    again = await create(NAME, NEW, "AUTO", "IP", Deadline(T), repeated=True)
    assert again.number == 1
    other = await create(NAME, NEW, "FLAT", "IP", Deadline(T), repeated=True)
    assert other.number == 2


async def test_carried_rows_keep_their_time_and_do_not_replace_what_is_as_new(service):
    await made(service)
    older, newer = image(1, indexed_at_ms=1_000), image(1, indexed_at_ms=3_000)
    assert await carry(service, [image(2, indexed_at_ms=2_000)]) == {2: pb.OUTCOME_INDEXED}
    assert await carry(service, [newer]) == {1: pb.OUTCOME_INDEXED}
    assert await carry(service, [older]) == {1: pb.OUTCOME_UNCHANGED}
    assert await carry(service, [newer]) == {1: pb.OUTCOME_UNCHANGED}
    times = await stored(service, f"{NAME}@1", "indexed_at_ms")
    assert {key: fields["indexed_at_ms"] for key, fields in times.items()} == {
        "p1": 3_000,
        "p2": 2_000,
    }
    vectors = await stored(service, f"{NAME}@1", "vector")
    assert all(len(fields["vector"]) == 24 for fields in vectors.values())


async def test_of_one_image_that_is_carried_twice_at_once_the_newer_stays(service):
    await made(service)
    old = image(3, indexed_at_ms=1_000)
    new = image(3, sequence=4, uri="new", indexed_at_ms=2_000)
    await carry(service, [new, old])
    rows = await stored(service, f"{NAME}@1", "uri", "indexed_at_ms")
    assert rows == {"p3": {"uri": "new", "indexed_at_ms": 2_000}}


@pytest.mark.parametrize(
    ("collection", "fields"),
    [
        (f"{NAME}@1", {}),
        (f"{NAME}@1", {"indexed_at_ms": -1}),
        (f"{NAME}@1", {"indexed_at_ms": 1, "id": ""}),
        (NAME, {"indexed_at_ms": 1}),
    ],
)
async def test_an_image_without_what_carrying_needs_or_with_it_elsewhere_fails(
    service, collection, fields
):
    await made(service)
    acks, _ = await service.index([image(7, **fields)], pb.IndexOptions(collection=collection))
    assert acks[7].error.code == code_pb2.INVALID_ARGUMENT


async def test_a_generation_that_is_not_there_takes_nothing(service):
    error = await failure(service.index([image(1)], pb.IndexOptions(collection=f"{NAME}@7")))
    assert error.reason == "COLLECTION_NOT_FOUND"
    options = pb.IndexOptions(collection="unknown@0", create_collection=True)
    assert (await failure(service.index([image(1)], options))).reason == "COLLECTION_NOT_FOUND"


async def test_a_switch_may_expect_who_serves_until_then(service):
    await made(service)
    error = await failure(switch(service, 1, expected=5))
    assert error.reason == "ANOTHER_GENERATION_SERVES"
    serving = await switch(service, 1, expected=0)
    assert (serving.number, serving.serving, serving.collection.model_name) == (1, True, "new")
    assert (await switch(service, 1, expected=0)).number == 1, "which is done already"
    assert await numbers(service) == [(0, False), (1, True)]
    assert (await failure(switch(service, 9))).reason == "GENERATION_NOT_FOUND"


async def test_only_a_generation_that_does_not_serve_is_dropped_and_only_by_its_full_name(service):
    await made(service)

    def drop(number, confirm):
        request = pb.DropGenerationRequest(collection=NAME, generation=number, confirm=confirm)
        return service.stub.DropGeneration(request)

    assert (await failure(drop(1, NAME))).field == "confirm"
    assert (await failure(drop(0, f"{NAME}@0"))).reason == "GENERATION_SERVES"
    await drop(1, f"{NAME}@1")
    assert (await failure(drop(1, f"{NAME}@1"))).reason == "GENERATION_NOT_FOUND"
    assert await numbers(service) == [(0, True)]


async def test_a_deletion_goes_to_all_generations_and_counts_the_one_that_serves(service):
    await made(service)
    await carry(service, [image(1, indexed_at_ms=1), image(5, indexed_at_ms=1)])
    ids = pb.Ids(ids=["p1", "p5"])
    answer = await service.stub.DeleteImages(pb.DeleteImagesRequest(collection=NAME, ids=ids))
    assert answer.deleted == 1
    assert (set(await stored(service, NAME)), set(await stored(service, f"{NAME}@1"))) == (
        {"p2"},
        set(),
    )
    await carry(service, [image(2, indexed_at_ms=1)])
    request = pb.DeleteImagesRequest(collection=f"{NAME}@1", ids=pb.Ids(ids=["p2"]))
    assert (await service.stub.DeleteImages(request)).deleted == 1
    assert (set(await stored(service, NAME)), set(await stored(service, f"{NAME}@1"))) == (
        {"p2"},
        set(),
    )


async def test_a_filter_chooses_from_what_serves_and_the_others_lose_the_same_images():
    """What they have of an image may be of before it was replaced."""
    store = MemoryStore({"is new": Comparison("uri", "==", "new")})
    async with opened(store) as service:
        await service.index([image(1, uri="new"), image(2, uri="old")])
        await made(service, "")
        copies = [image(1, uri="old", indexed_at_ms=1), image(2, uri="new", indexed_at_ms=1)]
        await carry(service, copies)
        request = pb.DeleteImagesRequest(collection=NAME, filter="is new")
        assert (await service.stub.DeleteImages(request)).deleted == 1
        assert set(await stored(service, NAME)) == {"p2"}
        assert set(await stored(service, f"{NAME}@1")) == {"p2"}
        request = pb.DeleteImagesRequest(collection=NAME, filter="")
        assert (await failure(service.stub.DeleteImages(request))).field == "filter"
        assert set(await stored(service, NAME)) == {"p2"}


class SwitchingStore(MemoryStore):
    """Has another generation serve just before a write to the one that served comes in."""

    switch_to = None

    async def upsert(self, name, rows, *, deadline):
        number, self.switch_to = self.switch_to, None
        if number is not None:
            await self.switch_generation(NAME, number, deadline=deadline)
        await super().upsert(name, rows, deadline=deadline)

    async def delete_ids(self, name, ids, *, deadline):
        deleted = await super().delete_ids(name, ids, deadline=deadline)
        number, self.switch_to = self.switch_to, None
        if number is not None:
            await self.switch_generation(NAME, number, deadline=deadline)
        return deleted


@pytest.fixture
async def switching():
    new = FakeEncoder(dimension=24)
    new.fingerprint, new.model_name = NEW, "new"
    async with new.serve() as target, opened(SwitchingStore(), others=[target]) as service:
        await service.index([image(1)])
        await made(service)
        yield service


async def test_what_was_written_to_a_generation_that_serves_no_more_is_not_acknowledged(switching):
    switching.store.switch_to = 1
    error = await failure(switching.index([image(2), image(3)]))
    assert (type(error), error.reason) == (errors.Unavailable, "RESUME")
    acks, _ = await switching.index([image(2), image(3)])
    assert {ack.outcome for ack in acks.values()} == {pb.OUTCOME_INDEXED}
    assert set(await stored(switching, NAME)) == {"p2", "p3"}


async def test_a_client_that_streams_on_has_everything_in_what_serves_by_the_end(switching):
    def images():
        for number in range(2, 30):
            if number == 15:
                switching.store.switch_to = 1
            yield ImageFile(content=file(drawn(number)), id=f"p{number}")

    outcomes = []
    async with AsyncClient(indexer=switching.target) as client:
        async for acknowledgement in client.index(NAME, images(), max_in_flight=4):
            outcomes.append(acknowledgement.outcome)
    assert set(outcomes) <= {Outcome.INDEXED, Outcome.UNCHANGED}
    assert len(outcomes) == 28
    there = set(await stored(switching, f"{NAME}@0")) | set(await stored(switching, NAME))
    assert there == {f"p{number}" for number in range(1, 30)}
    assert (await switching.store.get_spec(NAME, deadline=Deadline(T))).generation == 1


async def test_a_batch_during_a_switch_is_repeated_by_grpc_and_goes_to_what_serves(switching):
    switching.store.switch_to = 1
    async with AsyncClient(indexer=switching.target) as client:
        channel = client._connection("indexer")[0]
        call = channel.unary_unary(
            "/glimpse.indexer.v1.Indexer/BatchIndexImages",
            request_serializer=pb.BatchIndexImagesRequest.SerializeToString,
            response_deserializer=pb.BatchIndexImagesResponse.FromString,
        )
        request = pb.BatchIndexImagesRequest(options=OPTIONS, images=[image(4)])
        answer = await call(request, timeout=T)
    assert [ack.outcome for ack in answer.acknowledgements] == [pb.OUTCOME_INDEXED]
    assert set(await stored(switching, NAME)) == {"p4"}


async def test_a_deletion_during_a_switch_is_done_in_what_serves_by_the_end(switching):
    await carry(switching, [image(1, indexed_at_ms=1)])
    switching.store.switch_to = 1
    ids = pb.Ids(ids=["p1"])
    await switching.stub.DeleteImages(pb.DeleteImagesRequest(collection=NAME, ids=ids))
    assert await stored(switching, f"{NAME}@0") == await stored(switching, NAME) == {}


class LateStore(MemoryStore):
    """Lets something happen between a row's look-up and its write."""

    between = None

    async def fetch(self, *arguments, **options):
        found = await super().fetch(*arguments, **options)
        between, self.between = self.between, None
        if between is not None:
            await between()
        return found


async def test_what_is_written_while_an_older_row_is_encoded_is_not_replaced_by_it():
    async with opened(LateStore()) as service:
        await service.index([image(1)])
        await made(service, "")

        async def write():
            newer = image(1, uri="newer", indexed_at_ms=5_000)
            await carry(service, [newer])

        service.store.between = write
        assert await carry(service, [image(1, indexed_at_ms=1_000)]) == {1: pb.OUTCOME_INDEXED}
        rows = await stored(service, f"{NAME}@1", "uri")
        assert rows == {"p1": {"uri": "newer"}}


async def test_every_encoder_may_be_away_but_that_of_the_model():
    new = FakeEncoder(dimension=24)
    new.fingerprint = NEW
    async with new.serve() as target, opened(others=[target], retry_budget_s=0.0) as service:
        await service.index([image(1)])
        await made(service)
        service.encoder.failures = 1_000
        assert await carry(service, [image(1, indexed_at_ms=1)]) == {1: pb.OUTCOME_INDEXED}
        acks, _ = await service.index([image(2)])
        assert acks[2].error.code == code_pb2.UNAVAILABLE
