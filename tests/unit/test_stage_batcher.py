"""A stage's batches, and whom their results wake."""

from __future__ import annotations

import asyncio

from services.indexer.stage_batcher import StageBatcher


async def test_results_of_a_large_batch_wake_a_few_waiters_in_each_turn_of_the_loop():
    async def work(items):
        return [ValueError(item) if item == 7 else item for item in items]

    batcher = StageBatcher(work, max_items=100, max_in_flight=1)
    waiters = [batcher.submit(number) for number in range(100)]
    woken, most = 0, 0
    while woken < 100:
        await asyncio.sleep(0)
        before, woken = woken, sum(waiter.done() for waiter in waiters)
        most = max(most, woken - before)
    assert 0 < most <= 16
    assert isinstance(waiters.pop(7).exception(), ValueError)
    assert [waiter.result() for waiter in waiters] == [*range(7), *range(8, 100)]
    await batcher.close()
