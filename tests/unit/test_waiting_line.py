"""The line before a bounded number of places, under a clock that the test turns."""

from __future__ import annotations

import asyncio

import pytest

from glimpse.errors import DeadlineExceeded, Overloaded, Unavailable
from services.common.waiting_line import Pace, WaitingLine
from tests.clock import Clock
from tests.waiting import started, until_all_wait

MEMORY = 2**30


class Calls:
    """Calls of a line, each of which has its place until end()."""

    def __init__(self, line: WaitingLine) -> None:
        self.line = line
        self.begun: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}

    async def start(self, name: str, left_s: float | None = 1_000.0, size_bytes: int = 0):
        """A task; it has gone as far as it can."""
        self._ends[name] = asyncio.Event()
        return await started(self._run(name, left_s, size_bytes))

    async def _run(self, name, left_s, size_bytes):
        async with self.line.place(left_s, size_bytes):
            self.begun.append(name)
            await self._ends[name].wait()

    async def end(self, *names: str) -> None:
        for name in names:
            self._ends[name].set()
            await until_all_wait()


async def busy(line: WaitingLine, clock: Clock, call_s: float, count: int = 60) -> Calls:
    """A line of two places that are taken, whose calls have taken `call_s` each, two at a time."""
    calls = Calls(line)
    await calls.start("0")
    await calls.start("1")
    for number in range(2, count):
        clock.now_s += call_s / 2
        await calls.end(str(number - 2))
        await calls.start(str(number))
    return calls


async def test_calls_that_find_no_place_have_theirs_in_the_order_of_arrival(clock):
    calls = Calls(WaitingLine(2, MEMORY, clock))
    for name in "abcde":
        await calls.start(name)
    assert (calls.begun, calls.line.waiting) == (["a", "b"], 3)
    await calls.end("b")
    await calls.end("a")
    assert (calls.begun, calls.line.waiting) == (["a", "b", "c", "d"], 1)


async def test_who_leaves_the_line_is_passed_over_and_leaves_nothing(clock):
    line = WaitingLine(1, MEMORY, clock)
    calls = Calls(line)
    tasks = [await calls.start(name) for name in "abc"]
    tasks[1].cancel()
    await until_all_wait()
    assert line.waiting == 1
    await calls.end("a")
    assert calls.begun == ["a", "c"]
    await calls.end("c")
    await calls.start("d")
    assert calls.begun == ["a", "c", "d"]


async def test_a_place_that_comes_together_with_the_callers_leaving_goes_to_the_next(clock):
    calls = Calls(WaitingLine(1, MEMORY, clock))
    tasks = [await calls.start(name) for name in "abc"]
    calls._ends["a"].set()
    while not tasks[0].done():
        await asyncio.sleep(0)
        if tasks[0].done():
            tasks[1].cancel()  # it has its place, and has not run since
    await until_all_wait()
    assert calls.begun[-1] == "c"


async def test_whoever_would_be_answered_too_late_is_refused_at_once(clock):
    calls = await busy(WaitingLine(2, MEMORY, clock), clock, call_s=1.0)
    for number in range(8):  # two calls a second: with those that have places, ten take 5 s
        await calls.start(f"waits {number}")
    hasty = await calls.start("hasty", left_s=6.0)
    with pytest.raises(Overloaded, match="10 calls come before") as caught:
        await hasty
    assert 0.1 <= caught.value.retry_after_s <= 5
    await calls.start("patient", left_s=8.0)
    assert calls.line.waiting == 9


async def test_without_a_known_pace_everybody_may_wait(clock):
    calls = Calls(WaitingLine(2, MEMORY, clock))
    for number in range(100):
        await calls.start(str(number), left_s=0.5)
    assert calls.line.waiting == 98


async def test_a_pace_of_long_ago_is_forgotten(clock):
    calls = await busy(WaitingLine(2, MEMORY, clock), clock, call_s=10.0)
    await calls.end("58", "59")
    clock.now_s += 60
    await calls.start("a")
    await calls.start("b")
    await calls.start("c", left_s=1.0)
    assert calls.line.waiting == 1


async def test_calls_that_do_not_end_are_expected_not_to_end_for_as_long_again(clock):
    calls = await busy(WaitingLine(2, MEMORY, clock), clock, call_s=0.01)
    clock.now_s += 5.0
    with pytest.raises(Overloaded):
        await (await calls.start("hasty", left_s=5.0))
    await calls.start("patient", left_s=10.0)
    assert calls.line.waiting == 1


async def test_a_free_place_is_of_no_use_where_the_calls_beside_it_make_it_late(clock):
    calls = Calls(WaitingLine(4, MEMORY, clock))
    for number in range(2):
        await calls.start(str(number))
    for number in range(2, 60):  # three at a time, each takes 2 s
        clock.now_s += 1.0
        await calls.start(str(number))
        await calls.end(str(number - 2))
    with pytest.raises(Overloaded):
        await (await calls.start("hasty", left_s=2.0))
    await calls.start("patient", left_s=4.0)
    assert calls.begun[-1] == "patient"


async def test_memory_bounds_the_line_and_a_message_that_left_it_makes_room(clock):
    line = WaitingLine(1, 2**20, clock)
    calls = Calls(line)
    await calls.start("a")
    large = await calls.start("large", size_bytes=900_000)
    with pytest.raises(Overloaded, match="no memory"):
        await (await calls.start("second", size_bytes=200_000))
    await calls.start("small")
    assert line.waiting == 2
    large.cancel()
    await until_all_wait()
    await calls.start("third", size_bytes=900_000)
    assert line.waiting == 2


async def test_a_stream_has_its_place_at_once_or_not_at_all(clock):
    calls = Calls(WaitingLine(1, MEMORY, clock))
    await calls.start("stream", left_s=None)
    with pytest.raises(Overloaded) as caught:
        await (await calls.start("another", left_s=None))
    assert caught.value.retry_after_s == 1.0
    await calls.start("call")
    assert calls.line.waiting == 1


async def test_without_a_line_whoever_finds_no_place_is_refused(clock):
    calls = Calls(WaitingLine(1, 0, clock))
    await calls.start("a")
    with pytest.raises(Overloaded):
        await (await calls.start("b"))


async def test_the_wait_ends_with_the_deadline_and_with_the_service(clock):
    calls = Calls(WaitingLine(1, MEMORY, clock))
    await calls.start("a")
    late = await calls.start("late", left_s=0.3)
    with pytest.raises(DeadlineExceeded):
        await late
    waits = await calls.start("waits")
    calls.line.end_waits(Unavailable("the service is stopping", reason="STOPPING"))
    with pytest.raises(Unavailable):
        await waits
    assert calls.line.waiting == 0


def test_the_pace_is_the_mean_of_the_last_calls(clock):
    pace = Pace(clock)
    assert pace.expected_s(100) > 1e9, "it was never told that places are scarce"
    pace.resume()
    assert pace.expected_s(100) == 0
    for _ in range(1_000):
        clock.now_s += 0.1
        pace.observe(5.0, 10)
    for _ in range(300):
        clock.now_s += 0.1
        pace.observe(1.0, 20)
    assert pace.expected_s(100) == pytest.approx(5.0, rel=0.1)
