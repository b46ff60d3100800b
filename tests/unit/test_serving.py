"""Whether another generation serves: what a look may confirm, and who shares it."""

from __future__ import annotations

import asyncio

import pytest

from services.indexer.serving import SharedCheck


class Looks:
    """Checks that end when they are let, each with what it finds."""

    def __init__(self):
        self.ends = []

    async def __call__(self):
        self.ends.append(asyncio.get_running_loop().create_future())
        await self.ends[-1]


async def turns(count=5):
    for _ in range(count):
        await asyncio.sleep(0)


async def test_writes_that_end_during_a_look_share_the_next_and_not_this_one():
    looks = Looks()
    check = SharedCheck(looks)
    first = asyncio.create_task(check.passed())
    await turns()
    later = [asyncio.create_task(check.passed()) for _ in range(3)]
    await turns()
    assert len(looks.ends) == 1
    looks.ends[0].set_result(None)
    await turns()
    assert first.done()
    assert not any(task.done() for task in later), "what it saw may be older than their writes"
    assert len(looks.ends) == 2
    looks.ends[1].set_result(None)
    await asyncio.gather(*later)
    assert len(looks.ends) == 2


async def test_a_look_that_fails_confirms_nobody_and_the_next_one_looks_anew():
    looks = Looks()
    check = SharedCheck(looks)
    tasks = [asyncio.create_task(check.passed()) for _ in range(2)]
    await turns()
    looks.ends[0].set_exception(RuntimeError("another one serves"))
    await turns()
    assert isinstance(tasks[0].exception(), RuntimeError)
    looks.ends[1].set_exception(RuntimeError("still"))
    with pytest.raises(RuntimeError, match="still"):
        await tasks[1]
