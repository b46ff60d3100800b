"""That a call which ends leaves nothing behind, however it ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc

import pytest

from glimpse.errors import Unavailable
from services.common.tasks import concurrently, run_within

LONG_S = 60.0


class Step:
    """Waits to be cancelled, and then ends in the way that it is told."""

    def __init__(self, cancelled_with: Exception | None = None):
        self.started = asyncio.Event()
        self.is_over = False
        self._cancelled_with = cancelled_with

    async def __call__(self):
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if self._cancelled_with is not None:
                raise self._cancelled_with from None
            raise
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)  # its end takes a moment
            self.is_over = True


@pytest.fixture
async def reports():
    """What the event loop has been told of errors that nobody saw, once they are collected."""
    seen = []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: seen.append(report))
    yield seen
    gc.collect()
    assert seen == []


async def failing():
    raise Unavailable("gone")


async def answer(value):
    return value


async def test_results_come_in_the_order_of_the_steps():
    assert await concurrently(answer(1), answer("two"), answer(3)) == [1, "two", 3]
    assert await concurrently() == []


async def test_no_more_steps_run_at_once_than_may():
    running, most = 0, []

    async def step(number):
        nonlocal running
        running += 1
        most.append(running)
        await asyncio.sleep(0)
        running -= 1
        return number

    assert await concurrently(*map(step, range(7)), at_once=2) == [*range(7)]
    assert max(most) == 2


async def test_steps_that_wait_for_a_place_end_with_their_caller(reports):
    first, second = Step(), Step()
    task = asyncio.create_task(concurrently(first(), second(), at_once=1))
    await first.started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert first.is_over
    assert not second.started.is_set()


@pytest.mark.parametrize("cancelled_with", [None, Unavailable("interrupted")])
async def test_the_first_failure_ends_the_others_before_it_is_raised(reports, cancelled_with):
    other = Step(cancelled_with)

    async def fail_later():
        await other.started.wait()
        raise Unavailable("gone")

    with pytest.raises(Unavailable, match="gone"):
        await concurrently(other(), fail_later())
    assert other.is_over


async def test_errors_of_two_steps_are_one_error(reports):
    with pytest.raises(Unavailable):
        await concurrently(failing(), failing())


@pytest.mark.parametrize("cancelled_with", [None, Unavailable("interrupted")])
@pytest.mark.parametrize("run", [concurrently, lambda step: run_within(LONG_S, step)])
async def test_a_cancelled_caller_leaves_no_step_and_no_unseen_error(reports, run, cancelled_with):
    step = Step(cancelled_with)
    calling = asyncio.create_task(run(step()))
    await step.started.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert step.is_over


@pytest.mark.parametrize("run", [concurrently, lambda step: run_within(LONG_S, step)])
async def test_a_caller_cancelled_twice_still_waits_for_the_end_of_its_step(reports, run):
    step = Step(Unavailable("interrupted"))
    calling = asyncio.create_task(run(step()))
    await step.started.wait()
    for _ in range(2):
        calling.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert step.is_over


@pytest.mark.parametrize("cancelled_with", [None, Unavailable("interrupted")])
async def test_a_step_that_takes_too_long_is_ended(reports, cancelled_with):
    step = Step(cancelled_with)
    with pytest.raises(asyncio.TimeoutError):
        await run_within(0.01, step())
    assert step.is_over


async def test_what_a_step_gives_or_raises_in_time_is_passed_on(reports):
    assert await run_within(LONG_S, answer(7)) == 7
    with pytest.raises(Unavailable):
        await run_within(LONG_S, failing())
