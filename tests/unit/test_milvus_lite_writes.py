"""Writes through Milvus Lite: one after the other in a collection, and none once its disk was
full."""

from __future__ import annotations

import asyncio

import pytest
from pymilvus.exceptions import MilvusException

from services.vectors.milvus.errors import DiskFull
from services.vectors.milvus.lite_writes import LiteWrites
from tests.waiting import started

FULL = MilvusException(1, "[Errno 28] No space left on device: '/data/wal_data_000001.arrow'")


@pytest.fixture
def writes():
    return LiteWrites()


async def request(writes, method, error=None, may_end=None, collection="pictures"):
    async with writes.turn(method, collection):
        if may_end is not None:
            await may_end.wait()
        if error is not None:
            raise error


async def test_a_write_waits_for_the_one_before_and_a_search_for_none(writes):
    may_end = asyncio.Event()
    first = await started(request(writes, "upsert", may_end=may_end))
    second = await started(request(writes, "flush"))
    assert not second.done()
    await request(writes, "search")
    may_end.set()
    await asyncio.gather(first, second)


async def test_a_write_waits_for_none_in_another_collection(writes):
    may_end = asyncio.Event()
    flush = await started(request(writes, "flush", may_end=may_end))
    other = await started(request(writes, "upsert", collection="others"))
    assert other.done()
    may_end.set()
    await asyncio.gather(flush, other)


async def test_after_a_write_that_the_disk_refused_there_is_none(writes):
    may_end = asyncio.Event()
    failing = await started(request(writes, "flush", FULL, may_end))
    waiting = await started(request(writes, "upsert"))
    may_end.set()
    elsewhere = request(writes, "upsert", collection="others")
    for each in (failing, waiting, request(writes, "delete"), elsewhere):
        with pytest.raises(DiskFull, match="make room there, then start it and the indexer"):
            await each
    await request(writes, "query")


async def test_any_other_error_is_no_reason_to_stop(writes):
    with pytest.raises(MilvusException):
        await request(writes, "upsert", MilvusException(1, "something else"))
    await request(writes, "upsert")
