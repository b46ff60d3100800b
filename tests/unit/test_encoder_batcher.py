"""The batcher with a device that the test opens and closes: order, bounds, failures, sharing."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time

import numpy as np
import pytest

from glimpse.errors import DeadlineExceeded, Overloaded, Unavailable
from services.common.deadline import Deadline
from services.encoder.batcher import Batcher, Encoded
from services.encoder.device import DeviceLost
from services.encoder.work_queue import Lane, Limits
from tests.waiting import started, until

POISON = 13
FATAL = 666


def text(value: int) -> np.ndarray:
    return np.array([value, 7, 9], dtype=np.int64)


def image(value: int) -> np.ndarray:
    return np.full((2, 2, 3), value, dtype=np.uint8)


def vector(value: int) -> np.ndarray:
    return np.array([value, -value], dtype=np.float32)


def later(seconds: float = 30.0) -> Deadline:
    return Deadline(seconds)


class GatedDevice:
    """Computes what it is asked for, once its gate is open; tells what it computed."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.busy = threading.Event()
        self.batches: list[tuple[str, list[int]]] = []
        self.max_items = 10**6
        self.refused = 0  # batches of more than max_items
        self.layers = 1

    def encode_tokens(self, texts):
        return self._compute("text", [int(ids[0]) for ids in texts])

    def encode_pixels(self, pixels, between):
        values = [int(each[0, 0, 0]) for each in pixels]
        for _ in range(self.layers - 1):
            self.busy.set()
            assert self.gate.wait(10)
            between()
        return self._compute("image", values)

    def _compute(self, kind: str, values: list[int]) -> np.ndarray:
        self.busy.set()
        assert self.gate.wait(10)
        if len(values) > self.max_items:
            self.refused += 1
            raise MemoryError
        if FATAL in values:
            raise DeviceLost("gone")
        if POISON in values:
            raise ArithmeticError("a bad item")
        self.batches.append((kind, values))
        return np.stack([vector(value) for value in values])

    async def until_busy(self) -> None:
        assert await asyncio.to_thread(self.busy.wait, 10)
        self.busy.clear()


@pytest.fixture
def device():
    return GatedDevice()


@pytest.fixture
async def batchers():
    async with contextlib.AsyncExitStack() as stack:

        def make(device, on_death=lambda _: None, max_cached_texts=0, **limits) -> Batcher:
            batcher = Batcher(device, Limits(**limits), max_cached_texts, on_death)
            stack.push_async_callback(batcher.close)
            stack.callback(device.gate.set)  # runs first, so that the worker can end
            return batcher

        yield make


async def occupy(device: GatedDevice, batcher: Batcher, lane: Lane = Lane.TEXT) -> asyncio.Task:
    """Hold the device with a text or image of its own."""
    device.gate.clear()
    payload = text(1000) if lane is Lane.TEXT else image(100)
    task = await started(batcher.encode(lane, [payload], later()))
    await device.until_busy()
    return task


def values(outcomes) -> list[int]:
    return [int(outcome.vector[0]) for outcome in outcomes]


async def test_a_lone_text_goes_at_once(device, batchers) -> None:
    outcomes = await batchers(device).encode(Lane.TEXT, [text(5)], later())
    assert values(outcomes) == [5]
    assert device.batches == [("text", [5])]


async def test_whatever_waits_goes_together_when_the_device_is_free(device, batchers) -> None:
    batcher = batchers(device)
    first = await occupy(device, batcher)
    calls = [await started(batcher.encode(Lane.TEXT, [text(i)], later())) for i in range(10)]
    device.gate.set()
    assert [values(await call) for call in calls] == [[i] for i in range(10)]
    assert values(await first) == [1000]
    assert device.batches == [("text", [1000]), ("text", list(range(10)))]


async def test_batches_keep_their_bound_in_items(device, batchers) -> None:
    batcher = batchers(device, max_batch_texts=4)
    first = await occupy(device, batcher)
    call = await started(batcher.encode(Lane.TEXT, [text(i) for i in range(10)], later()))
    device.gate.set()
    assert values(await call) == list(range(10))
    await first
    assert [len(batch) for _, batch in device.batches] == [1, 4, 4, 2]


async def test_batches_keep_their_bound_in_bytes(device, batchers) -> None:
    batcher = batchers(device, max_batch_bytes=2 * image(0).nbytes)
    first = await occupy(device, batcher)
    call = await started(batcher.encode(Lane.BULK, [image(i) for i in range(5)], later()))
    device.gate.set()
    assert values(await call) == list(range(5))
    await first
    assert [len(batch) for _, batch in device.batches] == [1, 2, 2, 1]


async def test_texts_pass_images_and_interactive_images_pass_bulk(device, batchers) -> None:
    batcher = batchers(device)
    first = await occupy(device, batcher, Lane.BULK)
    calls = [
        await started(batcher.encode(Lane.BULK, [image(1)], later())),
        await started(batcher.encode(Lane.IMAGE, [image(2)], later())),
        await started(batcher.encode(Lane.TEXT, [text(3)], later())),
    ]
    device.gate.set()
    await asyncio.gather(first, *calls)
    assert [batch for _, batch in device.batches] == [[100], [3], [2], [1]]


async def test_texts_are_let_in_between_two_layers_of_an_image_batch(device, batchers) -> None:
    batcher = batchers(device)
    device.layers = 3
    device.gate.clear()
    images = await started(batcher.encode(Lane.BULK, [image(1), image(2)], later()))
    await device.until_busy()
    texts = await started(batcher.encode(Lane.TEXT, [text(3)], later()))
    device.gate.set()
    assert values(await texts) == [3]
    assert values(await images) == [1, 2]
    assert device.batches == [("text", [3]), ("image", [1, 2])]


async def test_a_picture_is_let_in_between_two_layers_of_a_bulk_batch(device, batchers) -> None:
    batcher = batchers(device)
    device.layers = 2
    device.gate.clear()
    bulk = await started(batcher.encode(Lane.BULK, [image(1), image(2)], later()))
    await device.until_busy()
    picture = await started(batcher.encode(Lane.IMAGE, [image(3)], later()))
    device.gate.set()
    assert values(await picture) == [3]
    assert values(await bulk) == [1, 2]
    assert device.batches == [("image", [3]), ("image", [1, 2])]


async def test_a_full_lane_refuses_at_once_and_takes_nothing_of_the_call(device, batchers) -> None:
    batcher = batchers(device, max_queued_texts=3)
    first = await occupy(device, batcher)
    waiting = await started(batcher.encode(Lane.TEXT, [text(1), text(2)], later()))
    with pytest.raises(Overloaded) as caught:
        await batcher.encode(Lane.TEXT, [text(3), text(4)], later())
    assert caught.value.retry_after_s >= 0.05
    assert batcher.waiting(Lane.TEXT) == 2
    image_call = await started(batcher.encode(Lane.IMAGE, [image(5)], later()))
    device.gate.set()
    assert values(await waiting) == [1, 2]
    assert values(await image_call) == [5], "another lane has room of its own"
    await first


async def test_cancelled_caller_costs_no_device_time_and_leaves_room(device, batchers) -> None:
    batcher = batchers(device, max_queued_texts=2)
    first = await occupy(device, batcher)
    gone = await started(batcher.encode(Lane.TEXT, [text(1)], later()))
    stays = await started(batcher.encode(Lane.TEXT, [text(2)], later()))
    gone.cancel()
    await asyncio.wait([gone])
    assert batcher.waiting(Lane.TEXT) == 1
    device.gate.set()
    assert values(await stays) == [2]
    await first
    assert device.batches == [("text", [1000]), ("text", [2])]


async def test_cancelled_caller_does_not_disturb_its_batch(device, batchers) -> None:
    batcher = batchers(device)
    device.gate.clear()
    calls = [await started(batcher.encode(Lane.BULK, [image(i)], later())) for i in range(4)]
    await device.until_busy()
    first_batch = calls[0]
    rest = calls[1:]
    rest[1].cancel()
    first_batch.cancel()
    device.gate.set()
    assert values(await rest[0]) == [1]
    assert values(await rest[2]) == [3]
    assert rest[1].cancelled()
    assert values(await batcher.encode(Lane.BULK, [image(9)], later())) == [9]


async def test_expired_caller_costs_no_device_time(device, batchers) -> None:
    batcher = batchers(device)
    first = await occupy(device, batcher)
    deadline = later(0.2)
    late = await started(batcher.encode(Lane.TEXT, [text(1)], deadline))
    patient = await started(batcher.encode(Lane.TEXT, [text(2)], later()))
    await until(lambda: time.monotonic() > deadline.at_s)
    device.gate.set()
    assert isinstance((await late)[0], DeadlineExceeded)
    assert values(await patient) == [2]
    await first
    assert ("text", [2]) in device.batches


async def test_a_deadline_in_the_past_is_refused_before_work(device, batchers) -> None:
    with pytest.raises(DeadlineExceeded):
        await batchers(device).encode(Lane.TEXT, [text(1)], later(-1))
    assert device.batches == []


async def test_a_failing_item_fails_alone(device, batchers) -> None:
    batcher = batchers(device)
    first = await occupy(device, batcher)
    payloads = [text(i) for i in range(10, 21)]
    call = await started(batcher.encode(Lane.TEXT, payloads, later()))
    device.gate.set()
    outcomes = await call
    await first
    failed = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, Exception)]
    assert failed == [POISON - 10]
    assert isinstance(outcomes[failed[0]], ArithmeticError)
    del outcomes[failed[0]]
    assert values(outcomes) == [10, 11, 12, 14, 15, 16, 17, 18, 19, 20]


async def test_out_of_memory_halves_this_batch_and_bounds_the_next_ones(device, batchers) -> None:
    batcher = batchers(device, max_batch_images=16)
    device.max_items = 5
    images = [image(i) for i in range(100, 116)]
    assert values(await batcher.encode(Lane.BULK, images, later())) == list(range(100, 116))
    device.batches.clear()
    device.refused = 0
    assert values(await batcher.encode(Lane.BULK, images, later())) == list(range(100, 116))
    assert device.refused == 0
    assert [len(batch) for _, batch in device.batches] == [4, 4, 4, 4]


async def test_a_lost_device_fails_every_waiter_and_is_reported(device, batchers) -> None:
    deaths: list[BaseException] = []
    batcher = batchers(device, on_death=deaths.append, max_batch_texts=1)
    first = await occupy(device, batcher, Lane.BULK)
    calls = [
        await started(batcher.encode(Lane.TEXT, [text(FATAL)], later())),
        await started(batcher.encode(Lane.TEXT, [text(1)], later())),
        await started(batcher.encode(Lane.BULK, [image(2)], later())),
    ]
    device.gate.set()
    assert values(await first) == [100]
    for outcomes in await asyncio.gather(*calls):
        assert isinstance(outcomes[0], Unavailable)
        assert outcomes[0].reason == "WORKER_DIED"
    assert isinstance(deaths[0], DeviceLost)
    with pytest.raises(Unavailable):
        await batcher.encode(Lane.TEXT, [text(1)], later())


async def test_a_worker_that_dies_of_a_bug_is_no_different(device, batchers) -> None:
    deaths: list[BaseException] = []
    batcher = batchers(device, on_death=deaths.append)

    def exit_thread(texts):
        raise SystemExit

    device.encode_tokens = exit_thread
    outcomes = await batcher.encode(Lane.TEXT, [text(1)], later())
    assert isinstance(outcomes[0], Unavailable)
    assert isinstance(deaths[0], SystemExit)


async def test_the_same_text_at_the_same_moment_is_computed_once(device, batchers) -> None:
    batcher = batchers(device)
    first = await occupy(device, batcher)
    calls = [
        await started(batcher.encode(Lane.TEXT, [text(1), text(1)], later())) for _ in range(5)
    ]
    assert batcher.waiting(Lane.TEXT) == 1
    calls[0].cancel()
    device.gate.set()
    for call in calls[1:]:
        assert values(await call) == [1, 1]
    await first
    assert device.batches == [("text", [1000]), ("text", [1])]


async def test_a_text_joins_an_equal_one_that_is_being_computed(device, batchers) -> None:
    batcher = batchers(device)
    first = await occupy(device, batcher)
    second = await started(batcher.encode(Lane.TEXT, [text(1000)], later()))
    first.cancel()
    device.gate.set()
    assert values(await second) == [1000]
    assert device.batches == [("text", [1000])]


async def test_who_joins_brings_a_deadline_of_his_own(device, batchers) -> None:
    batcher = batchers(device)
    first = await occupy(device, batcher)
    deadline = later(0.2)
    hasty = await started(batcher.encode(Lane.TEXT, [text(1)], deadline))
    patient = await started(batcher.encode(Lane.TEXT, [text(1)], later()))
    await until(lambda: time.monotonic() > deadline.at_s)
    device.gate.set()
    assert values(await patient) == [1]
    await asyncio.gather(first, hasty)


async def test_the_same_text_again_comes_from_the_cache(device, batchers) -> None:
    batcher = batchers(device, max_cached_texts=2)
    await batcher.encode(Lane.TEXT, [text(1)], later())
    again = (await batcher.encode(Lane.TEXT, [text(1)], later()))[0]
    assert isinstance(again, Encoded)
    assert (again.queue_us, again.encode_us) == (0, 0)
    assert values([again]) == [1]
    assert len(device.batches) == 1
    assert batcher.figures.cache_hits == 1


async def test_the_cache_is_bounded_and_forgets_what_was_longest_unused(device, batchers) -> None:
    batcher = batchers(device, max_cached_texts=2)
    for value in (1, 2, 1, 3, 1, 2):  # 2 is forgotten when 3 comes, 1 never is
        await batcher.encode(Lane.TEXT, [text(value)], later())
    assert [batch for _, batch in device.batches] == [[1], [2], [3], [2]]


async def test_failures_are_not_cached(device, batchers) -> None:
    batcher = batchers(device, max_cached_texts=10)
    for _ in range(2):
        outcome = (await batcher.encode(Lane.TEXT, [text(POISON)], later()))[0]
        assert isinstance(outcome, ArithmeticError)


async def test_no_caller_can_change_a_cached_vector(device, batchers) -> None:
    batcher = batchers(device, max_cached_texts=10)
    for _ in range(2):
        outcome = (await batcher.encode(Lane.TEXT, [text(1)], later()))[0]
        assert isinstance(outcome, Encoded)
        with pytest.raises(ValueError, match="read-only"):
            outcome.vector[0] = 5


async def test_timings_tell_waiting_from_working(device, batchers) -> None:
    batcher = batchers(device)
    first = await occupy(device, batcher)
    began = time.monotonic()
    call = await started(batcher.encode(Lane.TEXT, [text(1)], later()))
    held_until_s = time.monotonic() + 0.03
    await until(lambda: time.monotonic() > held_until_s)
    device.gate.set()
    outcome = (await call)[0]
    held = (await first)[0]
    total_us = (time.monotonic() - began) * 1e6
    assert isinstance(outcome, Encoded)
    assert isinstance(held, Encoded)
    assert held.encode_us >= 25_000
    assert held.queue_us < held.encode_us
    assert 25_000 <= outcome.queue_us <= total_us
    assert outcome.batch != held.batch


async def test_closing_ends_the_running_batch_and_fails_those_who_wait(device, batchers) -> None:
    batcher = batchers(device)
    first = await occupy(device, batcher)
    waiting = await started(batcher.encode(Lane.BULK, [image(1)], later()))
    closing = await started(batcher.close())
    device.gate.set()
    await closing
    assert values(await first) == [1000]
    outcome = (await waiting)[0]
    assert isinstance(outcome, Unavailable)
    assert outcome.reason == "STOPPING"
    with pytest.raises(Unavailable):
        await batcher.encode(Lane.TEXT, [text(1)], later())


async def test_every_answer_belongs_to_its_question_under_load_and_cancellations(
    device, batchers
) -> None:
    batcher = batchers(device, max_batch_texts=7, max_batch_images=5, max_cached_texts=20)
    dice = random.Random(3)

    async def caller(number: int) -> int:
        lane = dice.choice(list(Lane))
        make = text if lane is Lane.TEXT else image
        asked = [dice.choice([POISON, *range(200)]) for _ in range(dice.randint(1, 9))]
        task = asyncio.create_task(batcher.encode(lane, [make(i) for i in asked], later()))
        if number % 4 == 0:
            asyncio.get_running_loop().call_later(dice.uniform(0, 0.005), task.cancel)
        try:
            outcomes = await task
        except asyncio.CancelledError:
            return 0
        assert len(outcomes) == len(asked)
        for value, outcome in zip(asked, outcomes, strict=True):
            if value == POISON:
                assert isinstance(outcome, ArithmeticError)
            else:
                assert values([outcome]) == [value]
        return len(asked)

    for _ in range(5):
        answered = await asyncio.gather(*(caller(number) for number in range(80)))
        assert sum(answered) > 100
    assert all(batcher.waiting(lane) == 0 for lane in Lane)
