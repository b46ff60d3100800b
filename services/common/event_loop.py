"""The event loop that all calls of a service share: long work in short turns, and its lag."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

from prometheus_client import CollectorRegistry, Histogram

Item = TypeVar("Item")

# A call of others passes the loop a hundred times: it waits for such a turn every few passes.
_MAX_TURN_S = 0.001
_PASSES = 5  # where nobody else has anything to do, they take less than 0.1 ms
# Each task goes on for a tenth of a millisecond or less.
_MAX_WOKEN = 16
_EVERY_S = 0.1
_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


async def paced(items: Iterable[Item]) -> AsyncIterator[Item]:
    """The items; before one of them, other calls get their turns when the last were a while ago.

    It bounds the time that a call holds the loop where each item alone takes little, and its share
    of the loop: in one pass the others would go on by one step each.
    """
    began_s = time.perf_counter()
    for item in items:
        yield item
        if time.perf_counter() - began_s > _MAX_TURN_S:
            for _ in range(_PASSES):
                await asyncio.sleep(0)
            began_s = time.perf_counter()


async def woken_in_turn(items: Iterable[Item]) -> AsyncIterator[Item]:
    """The items, each of which ends what a task waits for; others get their turn every few tasks.

    All of them at once would go on in one turn of the loop.
    """
    for number, item in enumerate(items, 1):
        yield item
        if not number % _MAX_WOKEN:
            await asyncio.sleep(0)


def lag_metric(registry: CollectorRegistry) -> Histogram:
    """What `watch_lag` writes to; one per registry."""
    return Histogram(
        "glimpse_event_loop_lag_seconds",
        "How late the event loop is for what is due, which every call waits",
        buckets=_BUCKETS_S,
        registry=registry,
    )


async def watch_lag(lag_s: Histogram) -> None:
    """Measures until cancelled, by being due ten times a second.

    The timetable stays as it is while the loop is held up: what was missed counts, so that a second
    weighs as much as it does for calls, which go on arriving meanwhile.
    """
    loop = asyncio.get_running_loop()
    due_s = loop.time()
    while True:
        due_s += _EVERY_S
        await asyncio.sleep(due_s - loop.time())
        # asyncio calls what is due within its clock's resolution a little too early.
        lag_s.observe(max(0.0, loop.time() - due_s))
