"""RequestCoalescer: who shares a call with whom, whose deadline counts, and what becomes of all."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from glimpse.errors import DeadlineExceeded, Unavailable
from services.common.deadline import Deadline
from services.query.request_coalescer import RequestCoalescer
from tests.waiting import started, until, until_all_wait

who = contextvars.ContextVar("who", default="")


class Peer:
    """What is called: it notes the calls, and answers once `open` is set."""

    def __init__(self):
        self.calls = []
        self.deadlines = []
        self.contexts = []
        self.cancelled = 0
        self.failure = None
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, key, items, deadline):
        self.calls.append((key, items))
        self.deadlines.append(deadline)
        self.contexts.append(who.get())
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure is not None:
            raise self.failure
        return [item * 10 for item in items]

    async def reached(self, count):
        """Waits until so many calls have come in."""
        await until(lambda: len(self.calls) >= count)


@pytest.fixture
async def peer():
    return Peer()


def gathering(peer, max_items=4, max_calls=1, max_wait_s=60.0):
    return RequestCoalescer(peer, lambda _: max_items, max_calls, max_wait_s)


async def outcome(gathered, *items, key="k", seconds=10.0):
    return (await gathered.ask(key, items, Deadline(seconds))).answers


async def test_those_who_ask_in_the_same_turn_share_a_call_and_get_their_own_answers(peer):
    gathered = gathering(peer)
    answers = await asyncio.gather(outcome(gathered, 1), outcome(gathered, 2, 3))
    assert answers == [[10], [20, 30]]
    assert peer.calls == [("k", [1, 2, 3])]


async def test_those_who_ask_while_all_calls_are_under_way_share_the_next(peer):
    peer.open.clear()
    gathered = gathering(peer)
    first = await started(outcome(gathered, 1))
    later = [await started(outcome(gathered, item)) for item in (2, 3)]
    assert len(peer.calls) == 1
    peer.open.set()
    assert await asyncio.gather(first, *later) == [[10], [20], [30]]
    assert [items for _, items in peer.calls] == [[1], [2, 3]]


async def test_a_second_call_goes_out_beside_one_that_hangs(peer):
    peer.open.clear()
    gathered = gathering(peer, max_calls=2)
    hanging = asyncio.create_task(outcome(gathered, 1))
    await peer.reached(1)
    second = asyncio.create_task(outcome(gathered, 2))
    await peer.reached(2)
    peer.open.set()
    assert await asyncio.gather(hanging, second) == [[10], [20]]


async def test_calls_that_hang_hold_others_up_for_a_moment_only(peer):
    peer.open.clear()
    gathered = gathering(peer, max_wait_s=0.01)
    asked = []
    for count in (1, 2, 3):
        asked.append(asyncio.create_task(outcome(gathered, count)))
        await peer.reached(count)
    peer.open.set()
    assert await asyncio.gather(*asked) == [[10], [20], [30]]


async def test_a_call_takes_no_more_than_fit_but_never_splits_a_caller(peer):
    gathered = gathering(peer, max_items=2)
    many = outcome(gathered, 1, 2, 3)
    answers = await asyncio.gather(many, *(outcome(gathered, item) for item in (4, 5, 6)))
    assert answers == [[10, 20, 30], [40], [50], [60]]
    assert [items for _, items in peer.calls] == [[1, 2, 3], [4, 5], [6]]


async def test_different_keys_never_share_a_call_nor_wait_for_each_other(peer):
    peer.open.clear()
    gathered = gathering(peer)
    asked = [asyncio.create_task(outcome(gathered, 1, key=key)) for key in ("a", "b")]
    await peer.reached(2)
    peer.open.set()
    await asyncio.gather(*asked)
    assert peer.calls == [("a", [1]), ("b", [1])]


async def test_a_call_has_the_deadline_of_its_most_patient_caller(peer):
    gathered = gathering(peer)
    await asyncio.gather(*(outcome(gathered, 1, seconds=seconds) for seconds in (5, 60, 20)))
    assert 59 < peer.deadlines[0].left_s() <= 60


async def test_a_caller_whose_time_is_over_leaves_and_the_others_get_their_answers(peer):
    peer.open.clear()
    gathered = gathering(peer)
    patient = asyncio.create_task(outcome(gathered, 1))
    with pytest.raises(DeadlineExceeded):
        await outcome(gathered, 2, seconds=0.01)
    peer.open.set()
    assert await patient == [10]


async def test_a_call_that_nobody_waits_for_is_cancelled_and_makes_room(peer):
    peer.open.clear()
    gathered = gathering(peer)
    gone = [asyncio.create_task(outcome(gathered, item)) for item in (1, 2)]
    await peer.reached(1)
    waiting = asyncio.create_task(outcome(gathered, 3))
    gone[0].cancel()
    await asyncio.wait(gone[:1])
    assert peer.cancelled == 0
    gone[1].cancel()
    await peer.reached(2)
    assert peer.cancelled == 1
    peer.open.set()
    assert await waiting == [30]


async def test_who_waits_for_a_call_that_something_else_ends_does_not_wait_on(peer):
    async def ended():
        raise asyncio.CancelledError

    peer.open.wait = ended  # as when the channel is closed under it
    with pytest.raises(asyncio.CancelledError):
        await outcome(gathering(peer), 1)


async def test_who_leaves_before_the_call_is_not_sent_along(peer):
    peer.open.clear()
    gathered = gathering(peer)
    first = await started(outcome(gathered, 1))
    leaving, staying = [await started(outcome(gathered, item)) for item in (2, 3)]
    leaving.cancel()
    peer.open.set()
    assert await asyncio.gather(first, staying) == [[10], [30]]
    assert peer.calls[1] == ("k", [3])


async def test_a_call_that_fails_fails_for_all_its_callers_and_not_for_the_next(peer):
    peer.failure = Unavailable("gone")
    gathered = gathering(peer)
    failed = await asyncio.gather(*(outcome(gathered, i) for i in (1, 2)), return_exceptions=True)
    assert [type(error) for error in failed] == [Unavailable, Unavailable]
    peer.failure = None
    assert await outcome(gathered, 3) == [30]


async def test_keys_that_nobody_waits_under_are_forgotten(peer):
    gathered = gathering(peer)
    await asyncio.gather(*(outcome(gathered, 1, key=key) for key in "abcde"))
    await until_all_wait()
    assert not gathered.keys


async def test_a_call_runs_in_the_context_of_its_first_caller(peer):
    async def ask_as(name, item):
        who.set(name)
        return await outcome(gathered, item)

    peer.open.clear()
    gathered = gathering(peer)
    first = await started(ask_as("first", 1))
    others = [await started(ask_as(name, 2)) for name in ("second", "third")]
    peer.open.set()
    await asyncio.gather(first, *others)
    assert peer.contexts == ["first", "second"]
