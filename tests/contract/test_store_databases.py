"""Databases of one Milvus: what is in one of them is in no other."""

from __future__ import annotations

import dataclasses

import pytest

from glimpse.errors import FailedPrecondition, NotFound, Unavailable
from services.common.deadline import Deadline
from tests.contract.conftest import T, axis, picture, spec

pytestmark = pytest.mark.parametrize("backend", ["lite", "milvus"], indirect=True)


async def test_a_name_means_another_collection_in_another_database(store, backend):
    other = backend.with_database("other").open()
    for each, id, dimension in ((store, "ours", 8), (other, "theirs", 4)):
        await each.create_collection(spec("same", dimension=dimension), deadline=Deadline(T))
        row = picture(id, axis(0)[:dimension])
        await each.upsert("same", [row], deadline=Deadline(T))
        await each.settle("same", deadline=Deadline(T))

    for each, id, dimension in ((store, "ours", 8), (other, "theirs", 4)):
        vector = axis(0)[None, :dimension]
        ((hit,),) = await each.search("same", vector, 2, consistency="strong", deadline=Deadline(T))
        assert hit.id == id
        assert (await each.describe_collection("same", deadline=Deadline(T))).rows == 1
        assert "same" in await each.list_collections(deadline=Deadline(T))
    assert await store.delete_ids("same", ["theirs"], deadline=Deadline(T)) == 0
    await store.drop_collection("same", deadline=Deadline(T))
    with pytest.raises(NotFound):
        await store.count("same", deadline=Deadline(T))
    assert await other.count("same", deadline=Deadline(T)) == 1
    await other.drop_collection("same", deadline=Deadline(T))
    await other.close()


async def test_a_database_that_is_not_there_is_named_and_found_once_it_is(store, backend):
    missing = dataclasses.replace(backend, database="late").open()
    with pytest.raises(Unavailable, match="no database 'late'"):
        await missing.ready(deadline=Deadline(T))
    for call in (
        missing.create_collection(spec("pictures"), deadline=Deadline(T)),
        missing.list_collections(deadline=Deadline(T)),
    ):
        with pytest.raises(FailedPrecondition) as raised:
            await call
        assert raised.value.reason == "MILVUS_DATABASE_NOT_FOUND"

    backend.with_database("late")

    await missing.ready(deadline=Deadline(T))
    assert await missing.list_collections(deadline=Deadline(T)) == []
    await missing.close()
