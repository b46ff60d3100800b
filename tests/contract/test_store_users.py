"""A Milvus server that lets in users alone: what the services do with no more rights than
jobs/milvus-users grants them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from glimpse.errors import FailedPrecondition
from services.common.deadline import Deadline
from services.vectors.records import now_ms
from tests.contract.conftest import PASSWORD, T, axis, picture, spec

pytestmark = pytest.mark.parametrize("backend", ["milvus"], indirect=True)


@pytest.fixture
async def stores(backend):
    """A store for each service, as its user."""
    indexer, query = (
        replace(backend, token=f"{user}:{PASSWORD}").open() for user in ("indexer", "query")
    )
    yield indexer, query
    await indexer.close()
    await query.close()


async def test_the_services_need_no_more_rights_for_generations_than_their_users_have(stores):
    indexer, query = stores
    await indexer.create_collection(spec("growing"), deadline=Deadline(T))
    for number in (1, 2):
        await indexer.create_generation(spec("growing"), deadline=Deadline(T))
        await indexer.hold_writes("growing", now_ms(), deadline=Deadline(T))
        await indexer.switch_generation("growing", number, deadline=Deadline(T))
        assert (await query.get_spec("growing", deadline=Deadline(T))).generation == number
    await indexer.upsert("growing", [picture("a")], deadline=Deadline(T))
    await query.search("growing", axis(0)[None], 1, deadline=Deadline(T))
    assert await query.fetch("growing", ["a"], (), deadline=Deadline(T)) == {"a": {}}
    for changed in (
        query.upsert("growing", [picture("b")], deadline=Deadline(T)),
        query.switch_generation("growing", 0, deadline=Deadline(T)),
        query.drop_generation("growing", 0, deadline=Deadline(T)),
    ):
        with pytest.raises(FailedPrecondition, match="Milvus refuses the token"):
            await changed
    assert await indexer.delete_ids("growing", ["a"], deadline=Deadline(T)) == 1
    await indexer.switch_generation("growing", 0, deadline=Deadline(T))
    await indexer.drop_generation("growing", 2, deadline=Deadline(T))
    await indexer.drop_collection("growing", deadline=Deadline(T))
    assert await indexer.list_collections(deadline=Deadline(T)) == []


async def test_who_has_no_password_is_not_let_in(backend):
    for token in ("", "root:another"):
        store = replace(backend, token=token).open()
        with pytest.raises(FailedPrecondition, match="Milvus refuses the token"):
            await store.list_collections(deadline=Deadline(T))
        await store.close()
