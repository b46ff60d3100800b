"""What every store does with collections, and how it makes them fast."""

from __future__ import annotations

import asyncio
import contextlib
import time

import numpy as np
import pytest
from pymilvus.client.types import LoadState

from glimpse.errors import AlreadyExists, FailedPrecondition, InvalidInput, NotFound
from services.common.deadline import Deadline
from services.vectors.records import NOT_LOADED, CollectionInfo
from tests.contract.conftest import DIMENSION, ON_MILVUS, ON_SERVERS, T, axis, picture, spec

KINDS = {
    "memory": {"AUTO": "FLAT", "FLAT": "FLAT"},
    "lite": {
        "AUTO": "FLAT",
        "IVF_FLAT": "IVF_FLAT",
        "IVF_SQ8": "IVF_SQ8",
        "HNSW": "HNSW",
        "HNSW_SQ": "HNSW_SQ",
    },
    "milvus": {
        "AUTO": "HNSW",
        "IVF_FLAT": "IVF_FLAT",
        "IVF_SQ8": "IVF_SQ8",
        "HNSW_SQ": "HNSW_SQ",
    },
}


@pytest.fixture
async def name(store):
    """The name of a collection that is not there, and will not be there afterwards."""
    yield "fleeting"
    with contextlib.suppress(NotFound):
        await store.drop_collection("fleeting", deadline=Deadline(T))


def unit_vectors(count: int) -> np.ndarray:
    vectors = np.random.default_rng(7).normal(size=(count, DIMENSION)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


async def best(store, name, vector) -> str:
    (hits,) = await store.search(name, vector[None], 1, consistency="strong", deadline=Deadline(T))
    return hits[0].id


async def test_a_collection_remembers_what_it_was_made_of(store, backend, name):
    before_ms = time.time_ns() // 1_000_000
    made = spec(name, model_name='ViT-B/32 "ü"', model_fingerprint="ab" * 32, metric="COSINE")
    await store.create_collection(made, deadline=Deadline(T))
    await store.upsert(name, [picture("a"), picture("b")], deadline=Deadline(T))
    await store.upsert(name, [picture("b")], deadline=Deadline(T))

    info = await store.describe_collection(name, deadline=Deadline(T))

    assert before_ms <= info.created_at_ms <= time.time_ns() // 1_000_000
    assert info == CollectionInfo(
        name=name,
        dimension=DIMENSION,
        model_name='ViT-B/32 "ü"',
        model_fingerprint="ab" * 32,
        index_kind=KINDS[backend.kind]["AUTO"],
        index_state="Finished",
        metric="COSINE",
        rows=2,
        bytes=2 * (4 * DIMENSION + 512),
        created_at_ms=info.created_at_ms,
        indexed_rows=info.indexed_rows,
        pending_rows=0,
        index_left_s=None,
    )
    await store.settle(name, deadline=Deadline(T))
    info = await store.describe_collection(name, deadline=Deadline(T))
    assert (info.index_state, info.indexed_rows) == ("Finished", 2)


async def test_scores_are_cosines_under_either_metric(store, name):
    for metric in ("IP", "COSINE"):
        await store.create_collection(spec(name, metric=metric), deadline=Deadline(T))
        await store.upsert(name, [picture("a", axis(0))], deadline=Deadline(T))
        query = (0.6 * axis(0) + 0.8 * axis(1))[None]
        (hits,) = await store.search(name, query, 1, consistency="strong", deadline=Deadline(T))
        assert hits[0].score == pytest.approx(0.6, abs=1e-5)
        await store.drop_collection(name, deadline=Deadline(T))


async def test_a_taken_name_is_refused_even_for_an_equal_collection(store, name):
    await store.create_collection(spec(name), deadline=Deadline(T))

    for again in (spec(name), spec(name, dimension=4)):
        with pytest.raises(AlreadyExists):
            await store.create_collection(again, deadline=Deadline(T))


async def test_of_creations_at_once_one_makes_the_collection(store, name):
    creations = [store.create_collection(spec(name), deadline=Deadline(T)) for _ in range(4)]
    ended = await asyncio.gather(*creations, return_exceptions=True)
    assert sorted(type(each).__name__ for each in ended) == ["AlreadyExists"] * 3 + ["NoneType"]
    assert (await store.describe_collection(name, deadline=Deadline(T))).name == name


async def test_a_dropped_collection_is_gone_and_its_name_free(store, name):
    await store.create_collection(spec(name), deadline=Deadline(T))
    await store.upsert(name, [picture("a")], deadline=Deadline(T))
    assert name in await store.list_collections(deadline=Deadline(T))

    await store.drop_collection(name, deadline=Deadline(T))

    assert name not in await store.list_collections(deadline=Deadline(T))
    with pytest.raises(NotFound):
        await store.count(name, deadline=Deadline(T))
    await store.create_collection(spec(name, dimension=4), deadline=Deadline(T))
    assert await store.count(name, deadline=Deadline(T)) == 0
    row = picture("a", np.eye(4, dtype=np.float32)[0])
    await store.upsert(name, [row], deadline=Deadline(T))
    assert await best(store, name, row.vector) == "a"


async def test_names_come_in_pages(store, name):
    names = ["fleeting_a", "fleeting_b", "fleeting_c"]
    for each in names:
        await store.create_collection(spec(each), deadline=Deadline(T))
    try:
        after_all = await store.list_collections(deadline=Deadline(T), after="fleeting_c", limit=1)
        assert "fleeting_c" not in after_all
        first = await store.list_collections(deadline=Deadline(T), after="fleeting", limit=2)
        assert first == names[:2]
        rest = await store.list_collections(deadline=Deadline(T), after=first[-1], limit=1)
        assert rest == names[2:]
    finally:
        for each in names:
            await store.drop_collection(each, deadline=Deadline(T))


@ON_SERVERS
async def test_a_released_collection_is_described_without_loading_it(store, backend, name):
    if backend.kind == "lite":
        pytest.skip("Milvus Lite counts a collection that is not in memory, too")
    await store.create_collection(spec(name), deadline=Deadline(T))
    await store.upsert(name, [picture("a"), picture("b")], deadline=Deadline(T))
    client, full_name = backend.client(), backend.prefix + name
    client.flush(full_name, timeout=T)
    client.release_collection(full_name, timeout=T)

    info = await store.describe_collection(name, deadline=Deadline(T), load=False)

    assert (info.index_state, info.rows, info.model_name) == (NOT_LOADED, 2, spec(name).model_name)
    assert client.get_load_state(full_name, timeout=T)["state"] == LoadState.NotLoad
    info = await store.describe_collection(name, deadline=Deadline(T))
    assert (info.index_state, info.rows) == ("Finished", 2)
    client.close()


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("collection", {"name": "no spaces"}),
        ("collection", {"name": "1st"}),
        ("collection", {"name": ""}),
        ("collection", {"name": "x" * 256}),
        ("collection", {"name": 'a"; drop'}),
        ("dimension", {"dimension": 0}),
        ("dimension", {"dimension": 32_769}),
        ("index_kind", {"index_kind": "HNSW_PQ"}),
        ("metric", {"metric": "L2"}),
        ("model_name", {"model_name": ""}),
        ("model_fingerprint", {"model_fingerprint": "f" * 257}),
    ],
)
async def test_a_collection_beyond_a_bound_is_refused(store, field, changes):
    with pytest.raises(InvalidInput) as raised:
        await store.create_collection(spec(**{"name": "fleeting", **changes}), deadline=Deadline(T))
    assert raised.value.field == field


async def test_a_hostile_name_is_refused_by_every_call(store):
    for call in (
        store.describe_collection("a b", deadline=Deadline(T)),
        store.drop_collection("a b", deadline=Deadline(T)),
        store.upsert("a b", [picture("a")], deadline=Deadline(T)),
        store.search("a b", axis(0)[None], 1, deadline=Deadline(T)),
        store.count("a b", deadline=Deadline(T)),
        store.settle("a b", deadline=Deadline(T)),
    ):
        with pytest.raises(InvalidInput) as raised:
            await call
        assert raised.value.field == "collection"


async def test_every_kind_of_index_finds_what_was_written_and_settled(store, backend, name):
    vectors = unit_vectors(1_500)
    rows = [picture(f"{i}", vector) for i, vector in enumerate(vectors)]
    for kind, built in KINDS[backend.kind].items():
        try:
            await store.create_collection(spec(name, index_kind=kind), deadline=Deadline(T))
        except InvalidInput:
            assert (backend.kind, kind) == ("milvus", "HNSW_SQ")  # on servers before 2.5
            continue
        await store.upsert(name, rows, deadline=Deadline(T))
        await store.settle(name, deadline=Deadline(T))

        assert (await store.describe_collection(name, deadline=Deadline(T))).index_kind == built
        found = [await best(store, name, vectors[i]) for i in range(0, 1_500, 150)]
        assert found == [f"{i}" for i in range(0, 1_500, 150)]
        await store.drop_collection(name, deadline=Deadline(T))


async def test_settling_often_and_at_once_loses_nothing(store, name, backend):
    await store.create_collection(spec(name), deadline=Deadline(T))
    for number in range(3):
        await store.upsert(name, [picture(f"{number}", axis(number))], deadline=Deadline(T))
        new = axis(number)[None]
        searches = [
            store.search(name, new, 1, consistency="strong", deadline=Deadline(T)) for _ in range(3)
        ]
        settles = [store.settle(name, deadline=Deadline(T)) for _ in range(3)]
        found = (await asyncio.gather(*settles, *searches))[3:]
        if backend.kind != "lite":  # which, while it flushes, does not find what it flushes
            assert [hits[0].id for (hits,) in found] == [f"{number}"] * 3
        assert await best(store, name, axis(number)) == f"{number}"
    assert await store.count(name, deadline=Deadline(T)) == 3


@pytest.mark.parametrize("backend", ["lite"], indirect=True)
async def test_milvus_lite_gets_a_graph_once_a_collection_is_large(store, name):
    vectors = unit_vectors(10_500)
    await store.create_collection(spec(name), deadline=Deadline(T))

    async def write(first: int, last: int) -> str:
        rows = [picture(f"{i}", vectors[i]) for i in range(first, last)]
        await store.upsert(name, rows, deadline=Deadline(T))
        await store.settle(name, deadline=Deadline(T))
        return (await store.describe_collection(name, deadline=Deadline(T))).index_kind

    assert await write(0, 9_900) == "FLAT"
    assert await write(9_900, 10_400) == "HNSW"
    assert await write(10_400, 10_500) == "HNSW"
    assert await best(store, name, vectors[5]) == "5"
    assert await best(store, name, vectors[10_450]) == "10450"
    await store.delete_where(name, "id >= '2'", deadline=Deadline(T))
    await store.settle(name, deadline=Deadline(T))
    assert (await store.describe_collection(name, deadline=Deadline(T))).index_kind == "HNSW"


@ON_MILVUS
async def test_collections_of_others_are_left_alone(store, backend):
    client = backend.client()
    client.create_collection(backend.prefix + "theirs", dimension=DIMENSION, timeout=T)
    try:
        assert "theirs" not in await store.list_collections(deadline=Deadline(T))
        for call in (
            store.describe_collection("theirs", deadline=Deadline(T)),
            store.drop_collection("theirs", deadline=Deadline(T)),
            store.upsert("theirs", [picture("a")], deadline=Deadline(T)),
            store.search("theirs", axis(0)[None], 1, deadline=Deadline(T)),
            store.delete_where("theirs", "id > 0", deadline=Deadline(T)),
        ):
            with pytest.raises(FailedPrecondition) as raised:
                await call
            assert raised.value.reason == "FOREIGN_COLLECTION"
    finally:
        client.drop_collection(backend.prefix + "theirs", timeout=T)
        client.close()
