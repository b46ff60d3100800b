"""What every store does with the generations of a collection, of which one serves."""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np
import pytest

from glimpse.errors import AlreadyExists, FailedPrecondition, InvalidInput, NotFound
from services.common.deadline import Deadline
from tests.contract.conftest import ON_MILVUS, T, axis, picture, spec
from tests.contract.test_store_collections import best

# A Milvus server takes a second for each collection: it is asked what differs between stores.
QUICK = pytest.mark.parametrize("backend", ["memory", "lite"], indirect=True)

NAME = "growing"
OTHER_MODEL = {"model_name": "new", "model_fingerprint": "e2" * 32, "dimension": 4}


@pytest.fixture
async def name(store):
    """The name of a collection with one image, "old", that is gone afterwards."""
    await store.create_collection(spec(NAME), deadline=Deadline(T))
    await store.upsert(NAME, [picture("old")], deadline=Deadline(T))
    yield NAME
    with contextlib.suppress(NotFound):
        await store.drop_collection(NAME, deadline=Deadline(T))


def short(number: int) -> np.ndarray:
    """A unit vector of the other model's."""
    return np.eye(4, dtype=np.float32)[number]


async def grown(store, **changes) -> str:
    """The name of a new generation of the other model with one image, "new"."""
    made = await store.create_generation(spec(NAME, **OTHER_MODEL, **changes), deadline=Deadline(T))
    await store.upsert(made.address, [picture("new", short(0))], deadline=Deadline(T))
    return made.address


async def ids(store, name) -> list[str]:
    return [row[0] for row in await store.list_rows(name, 10, deadline=Deadline(T))]


async def numbers(store) -> list[tuple[int, bool]]:
    listed = await store.list_generations(NAME, deadline=Deadline(T))
    return [(each.spec.generation, each.is_serving) for each in listed]


@QUICK
async def test_a_collection_is_its_own_first_generation(store, name):
    (only,) = await store.list_generations(name, deadline=Deadline(T))
    assert only.is_serving
    assert only.spec == await store.get_spec(name, deadline=Deadline(T)) == spec(name)
    assert only.spec.created_at_ms > 0
    assert await ids(store, only.spec.address) == ["old"]


async def test_a_new_generation_has_its_own_model_and_rows_and_changes_nothing_for_callers(
    store, name
):
    new = await grown(store)
    assert new == "growing@1"
    assert await numbers(store) == [(0, True), (1, False)]
    assert (await ids(store, name), await ids(store, new)) == (["old"], ["new"])
    made = await store.get_spec(new, deadline=Deadline(T))
    assert (made, made.generation) == (spec(name, **OTHER_MODEL, generation=1), 1)
    assert await store.get_spec(name, deadline=Deadline(T)) == spec(name)
    assert await store.list_collections(deadline=Deadline(T), after="growin", limit=1) == [name]


async def test_a_switch_leads_every_call_by_the_collections_name_to_another(store, name):
    new = await grown(store)
    await store.switch_generation(name, 1, deadline=Deadline(T))

    assert await numbers(store) == [(0, False), (1, True)]
    assert (await ids(store, name), await ids(store, "growing@0")) == (["new"], ["old"])
    assert await best(store, name, short(0)) == "new"
    assert (await store.get_spec(name, deadline=Deadline(T))).model_name == "new"
    info = await store.describe_collection(name, deadline=Deadline(T))
    assert (info.name, info.model_name, info.dimension, info.rows) == (name, "new", 4, 1)
    assert await store.count(name, deadline=Deadline(T)) == 1
    assert await store.delete_ids(name, ["old", "new"], deadline=Deadline(T)) == 1
    assert (await ids(store, new), await ids(store, "growing@0")) == ([], ["old"])


async def test_what_goes_to_a_generation_goes_there_whichever_serves(store, name):
    new, first = await grown(store), (await store.get_spec(name, deadline=Deadline(T)))
    await store.switch_generation(name, 1, deadline=Deadline(T))
    assert await best(store, first.address, axis(0)) == "old"
    await store.switch_generation(name, 0, deadline=Deadline(T))
    assert await best(store, new, short(0)) == "new"
    assert await best(store, name, axis(0)) == "old"
    assert await numbers(store) == [(0, True), (1, False)]


@QUICK
async def test_a_switch_to_the_one_that_serves_changes_nothing(store, name):
    await grown(store)
    for number in (0, 1, 1, 0):
        await store.switch_generation(name, number, deadline=Deadline(T))
        assert dict(await numbers(store))[number]


async def test_another_process_sees_a_switch_as_soon_as_it_asks(store, backend, name):
    if backend.kind == "memory":
        pytest.skip("the store in memory is one process'")
    other = backend.open()
    await other.get_spec(name, deadline=Deadline(T))
    await grown(store)
    await store.switch_generation(name, 1, deadline=Deadline(T))

    trusting = await other.get_spec(name, deadline=Deadline(T), max_age_s=60.0)
    asking = await other.get_spec(name, deadline=Deadline(T))
    assert (trusting.generation, asking.generation) == (0, 1)
    assert (await other.get_spec(name, deadline=Deadline(T), max_age_s=60.0)).generation == 1
    await other.close()


async def test_a_process_that_trusts_what_it_knows_finds_the_successor_of_what_was_dropped(
    store, backend, name
):
    if backend.kind == "memory":
        pytest.skip("the store in memory is one process'")
    other = backend.open()
    assert await ids(other, name) == ["old"]
    await grown(store)
    await store.switch_generation(name, 1, deadline=Deadline(T))
    await store.drop_generation(name, 0, deadline=Deadline(T))

    assert await ids(other, name) == ["new"]
    await other.close()


async def test_every_process_sees_until_when_writes_are_held(store, backend, name):
    await grown(store)
    other = backend.open() if backend.kind != "memory" else store
    await other.get_spec(name, deadline=Deadline(T))
    until_ms = 4_102_444_800_000
    for number in (0, 1):
        await store.switch_generation(name, number, deadline=Deadline(T))
        seen = []
        for address, to_ms in ((f"growing@{number}", until_ms), (name, until_ms + 1), (name, 0)):
            await store.hold_writes(address, to_ms, deadline=Deadline(T))
            seen.append((await other.get_spec(name, deadline=Deadline(T))).held_until_ms)
        assert seen == [until_ms, until_ms + 1, 0]
        await store.hold_writes(name, until_ms, deadline=Deadline(T))

    there = await store.list_generations(name, deadline=Deadline(T))
    assert [each.spec.held_until_ms for each in there] == [until_ms] * 2
    assert [each.spec.model_name for each in there] == [spec(name).model_name, "new"]
    await store.upsert(name, [picture("more", short(1))], deadline=Deadline(T))
    assert await best(store, name, short(1)) == "more"
    with pytest.raises(NotFound):
        await store.hold_writes("missing", 0, deadline=Deadline(T))
    if other is not store:
        await other.close()


async def test_the_generation_that_serves_is_not_dropped(store, name):
    await grown(store)
    for serving in (0, 1):
        await store.switch_generation(name, serving, deadline=Deadline(T))
        with pytest.raises(FailedPrecondition) as raised:
            await store.drop_generation(name, serving, deadline=Deadline(T))
        assert raised.value.reason == "GENERATION_SERVES"
    await store.drop_generation(name, 0, deadline=Deadline(T))

    assert await numbers(store) == [(1, True)]
    assert await ids(store, name) == ["new"]
    assert name in await store.list_collections(deadline=Deadline(T))
    with pytest.raises(NotFound):
        await ids(store, "growing@0")
    with pytest.raises(AlreadyExists):
        await store.create_collection(spec(name), deadline=Deadline(T))


@QUICK
async def test_numbers_go_on_behind_those_that_are_there(store, name):
    assert await grown(store) == "growing@1"
    assert await grown(store) == "growing@2"
    await store.drop_generation(name, 1, deadline=Deadline(T))
    assert await grown(store) == "growing@3"
    assert await numbers(store) == [(0, True), (2, False), (3, False)]


@QUICK
async def test_of_generations_made_at_once_each_has_its_number(store, name):
    await asyncio.gather(*(grown(store) for _ in range(3)))
    assert [number for number, _ in await numbers(store)] == [0, 1, 2, 3]


@pytest.mark.parametrize("serving", [0, 1])
async def test_a_collection_is_dropped_with_its_generations_and_its_name_free(store, name, serving):
    new = await grown(store)
    await store.switch_generation(name, serving, deadline=Deadline(T))
    await store.drop_collection(name, deadline=Deadline(T))

    assert await numbers(store) == []
    for gone in (name, "growing@0", new):
        with pytest.raises(NotFound):
            await ids(store, gone)
    await store.create_collection(spec(name), deadline=Deadline(T))
    assert await numbers(store) == [(0, True)]
    assert await ids(store, name) == []


@QUICK
async def test_what_is_not_there_is_not_found(store, name):
    for call in (
        store.switch_generation(name, 1, deadline=Deadline(T)),
        store.drop_generation(name, 7, deadline=Deadline(T)),
        store.switch_generation("missing", 0, deadline=Deadline(T)),
    ):
        with pytest.raises(NotFound) as raised:
            await call
        assert raised.value.reason == "GENERATION_NOT_FOUND"
    with pytest.raises(NotFound) as raised:
        await store.create_generation(spec("missing"), deadline=Deadline(T))
    assert raised.value.reason == "COLLECTION_NOT_FOUND"
    assert await store.list_generations("missing", deadline=Deadline(T)) == []


@QUICK
@pytest.mark.parametrize("taken", ["cats__g1", "cats__g0", "cats__serving", "cats__g1__g2"])
async def test_names_of_generations_are_not_given_to_collections(store, taken):
    with pytest.raises(InvalidInput) as raised:
        await store.create_collection(spec(taken), deadline=Deadline(T))
    assert raised.value.field == "collection"


@QUICK
@pytest.mark.parametrize("address", ["growing@0", "growing@1", "growing@x"])
async def test_what_changes_generations_takes_a_collections_name(store, name, address):
    for call in (
        store.create_collection(spec(address), deadline=Deadline(T)),
        store.create_generation(spec(address), deadline=Deadline(T)),
        store.list_generations(address, deadline=Deadline(T)),
        store.switch_generation(address, 0, deadline=Deadline(T)),
        store.drop_generation(address, 0, deadline=Deadline(T)),
        store.drop_collection(address, deadline=Deadline(T)),
    ):
        with pytest.raises(InvalidInput) as raised:
            await call
        assert raised.value.field == "collection"


@QUICK
@pytest.mark.parametrize("wrong", ["growing@", "growing@01", "growing@-1", "@1", "a b@1", "a@1@1"])
async def test_what_is_no_address_is_refused(store, wrong):
    with pytest.raises(InvalidInput):
        await ids(store, wrong)


@QUICK
async def test_a_name_too_long_for_generations_is_refused(store):
    with pytest.raises(InvalidInput, match="243"):
        await store.create_generation(spec("x" * 244), deadline=Deadline(T))


@ON_MILVUS
@pytest.mark.parametrize("old", ["growing__g0", "growing__g1", "growing__serving"])
async def test_a_collection_of_before_that_is_named_like_a_generation_stays_what_it_is(
    store, name, old, monkeypatch
):
    with monkeypatch.context() as before:
        before.setattr("services.vectors.bounds.check_unreserved", lambda _: None)
        await store.create_collection(spec(old, model_name="theirs"), deadline=Deadline(T))
    try:
        await store.upsert(old, [picture("theirs")], deadline=Deadline(T))
        listed = await store.list_collections(deadline=Deadline(T), after="growin", limit=2)
        assert listed == [name, old]
        assert await store.get_spec(old, deadline=Deadline(T)) == spec(old, model_name="theirs")
        assert (await ids(store, name), await ids(store, "growing@0")) == (["old"], ["old"])
        if old == "growing__serving":
            with pytest.raises(AlreadyExists, match=old):
                await grown(store)
        else:
            new = await grown(store)
            await store.switch_generation(name, int(new[-1]), deadline=Deadline(T))
            assert await ids(store, name) == ["new"]
        assert await ids(store, old) == ["theirs"]
        await store.drop_collection(name, deadline=Deadline(T))
        assert await ids(store, old) == ["theirs"]
    finally:
        await store.drop_collection(old, deadline=Deadline(T))


@ON_MILVUS
async def test_a_generation_is_no_collection_by_milvus_own_name_of_it(store, name):
    await grown(store)
    with pytest.raises(NotFound):
        await ids(store, "growing__g1")
    with pytest.raises(NotFound):
        await store.drop_collection("growing__g1", deadline=Deadline(T))


@ON_MILVUS
async def test_a_copy_of_a_generation_under_another_name_is_a_collection(store, backend, name):
    await grown(store)
    client = backend.client()
    client.rename_collection(backend.prefix + "growing__g1", backend.prefix + "restored", timeout=T)
    client.close()
    try:
        assert "restored" in await store.list_collections(deadline=Deadline(T))
        assert await ids(store, "restored") == ["new"]
        assert (await store.get_spec("restored", deadline=Deadline(T))).generation == 0
        assert await numbers(store) == [(0, True)]
    finally:
        await store.drop_collection("restored", deadline=Deadline(T))
