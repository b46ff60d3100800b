"""A budget of bytes: who gets them, and when."""

from __future__ import annotations

import asyncio

import pytest

from services.indexer.byte_budget import ByteBudget
from tests.waiting import started


async def reserving(budget, *sizes):
    """A task for each size, all of them at their wait or past it."""
    return [await started(budget.reserve(size)) for size in sizes]


async def test_bytes_are_given_out_in_the_order_of_asking():
    budget = ByteBudget(10)
    await budget.reserve(8)
    large, small = await reserving(budget, 9, 1)
    assert not small.done()  # though it would fit, before the one that asked first
    budget.release(8)
    await asyncio.gather(large, small)
    assert budget.held_bytes == 10


async def test_who_leaves_makes_way_for_those_behind():
    budget = ByteBudget(10)
    await budget.reserve(8)
    large, small = await reserving(budget, 9, 1)
    large.cancel()
    await asyncio.wait_for(small, 10)
    assert budget.held_bytes == 9


async def test_what_is_larger_than_the_bound_passes_alone():
    budget = ByteBudget(10)
    await budget.reserve(100)
    (other,) = await reserving(budget, 1)
    assert budget.waiting == 1
    budget.release(100)
    await other
    assert budget.held_bytes == 1


@pytest.mark.parametrize("given_first", [False, True])
async def test_a_wait_that_is_cancelled_holds_nothing_and_nobody_up(given_first):
    budget = ByteBudget(10)
    await budget.reserve(10)
    leaving, staying = await reserving(budget, 10, 10)
    if given_first:
        budget.release(10)
        leaving.cancel()
    else:
        leaving.cancel()
        budget.release(10)
    await asyncio.wait([leaving])
    await staying
    assert leaving.cancelled()
    assert (budget.held_bytes, budget.waiting) == (10, 0)
