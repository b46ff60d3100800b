"""Settling collections after streams: who waits, for how long, and what goes on by itself."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from prometheus_client import CollectorRegistry

from glimpse.errors import FailedPrecondition, Unavailable
from services.common.deadline import Deadline
from services.indexer.metrics import IndexerMetrics
from services.indexer.settings import IndexerSettings
from services.indexer.settling import Settling
from services.vectors.records import CollectionSpec
from tests.memory_store import MemoryStore
from tests.waiting import started, until, until_all_wait


class SlowStore(MemoryStore):
    """Settles when the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[str] = []
        self.errors: list[Exception] = []
        self.may_end = asyncio.Event()
        self.indexed_rows = 0

    async def settle(self, name: str, *, deadline: Deadline) -> None:
        self.begun.append(name)
        if self.errors:
            raise self.errors.pop(0)
        await self.may_end.wait()

    async def describe_collection(self, name, *, deadline, load=True, exact=True):
        info = await super().describe_collection(name, deadline=deadline)
        return dataclasses.replace(info, rows=3, indexed_rows=self.indexed_rows)


@pytest.fixture
def store():
    return SlowStore()


def settling(store, **settings) -> Settling:
    read = IndexerSettings.model_validate(settings)
    return Settling(store, read, IndexerMetrics(CollectorRegistry()))


async def test_who_comes_while_one_settles_waits_for_another_that_all_who_come_share(store):
    made = settling(store)
    first = await started(made.settle("c"))
    others = [await started(made.settle("c")) for _ in range(3)]
    elsewhere = await started(made.settle("d"))
    assert store.begun == ["c", "d"]
    store.may_end.set()
    await asyncio.gather(first, elsewhere, *others)
    assert store.begun == ["c", "d", "c"]


async def test_nobody_is_held_up_for_longer_than_set_and_it_goes_on(store):
    made = settling(store, settle_timeout_s=0.01)
    await made.settle("c")
    waiting = await started(made.settle("c"))
    await waiting
    assert store.begun == ["c"]
    store.may_end.set()
    await until(lambda: store.begun == ["c", "c"])
    made.stop()


async def test_a_milvus_that_is_away_is_tried_again(store):
    store.errors = [Unavailable("away", retry_after_s=0.001)]
    store.may_end.set()
    await settling(store).settle("c")
    assert store.begun == ["c", "c"]


async def test_who_waits_is_told_what_somebody_has_to_mend(store):
    store.errors = [FailedPrecondition("start it again")]
    with pytest.raises(FailedPrecondition, match="start it again"):
        await settling(store).settle("c")


async def test_a_stop_ends_all_waits(store):
    made = settling(store)
    waiting = [await started(made.settle("c")) for _ in range(2)]
    made.stop()
    await asyncio.gather(*waiting)
    await made.settle("c")
    assert store.begun == ["c"]


async def test_after_a_restart_it_sees_to_what_has_no_index_yet(store):
    await store.create_collection(
        CollectionSpec("c", 4, "model", "fingerprint"), deadline=Deadline(1)
    )
    made = settling(store)
    store.indexed_rows = 3
    await made.resume()
    await until_all_wait()
    assert store.begun == []
    store.indexed_rows = 2
    await made.resume()
    await until_all_wait()
    assert store.begun == ["c"]
    made.stop()
