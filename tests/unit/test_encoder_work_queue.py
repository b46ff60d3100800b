"""The encoder's queue under a clock that the test turns: order, ageing, refusals."""

from __future__ import annotations

import pytest

from glimpse.errors import DeadlineExceeded, Overloaded, Unavailable
from services.common.deadline import Deadline
from services.encoder.work_queue import HANDICAPS_S, Item, Lane, Limits, WorkQueue
from tests.clock import Clock


def item(lane: Lane, clock: Clock, name: str = "", left_s: float = 60.0) -> Item:
    return Item(lane, name, 1, clock.now_s, in_s(clock, left_s))


def in_s(clock: Clock, left_s: float) -> Deadline:
    """A deadline on the test's own clock."""
    deadline = Deadline(0)
    deadline.at_s = clock.now_s + left_s
    return deadline


def put(queue: WorkQueue, clock: Clock, lane: Lane, name: str, left_s: float = 60.0) -> Item:
    queued = item(lane, clock, name, left_s)
    queue.put(lane, [queued])
    return queued


def taken(queue: WorkQueue) -> list[str]:
    batch = queue.take()
    assert batch is not None
    return [each.payload for each in batch.items]


def test_a_bulk_image_that_has_waited_its_handicap_is_passed_no_more(clock) -> None:
    queue = WorkQueue(Limits(max_batch_texts=1), clock)
    put(queue, clock, Lane.BULK, "bulk")
    order = []
    for number in range(60):  # more texts than the device can take, for ever
        put(queue, clock, Lane.TEXT, f"text {number}")
        put(queue, clock, Lane.TEXT, f"text {number} again")
        order += taken(queue)
        clock.now_s += 0.1
    assert "bulk" in order
    waited_s = 0.1 * order.index("bulk")
    # The texts that came before its turn still go first; none that came after it does.
    assert HANDICAPS_S[Lane.BULK] <= waited_s <= 2 * HANDICAPS_S[Lane.BULK] + 0.2


def test_texts_pass_a_bulk_image_until_then(clock) -> None:
    queue = WorkQueue(Limits(), clock)
    put(queue, clock, Lane.BULK, "bulk")
    clock.now_s += HANDICAPS_S[Lane.BULK] - 0.01
    put(queue, clock, Lane.TEXT, "text")
    assert taken(queue) == ["text"]
    assert taken(queue) == ["bulk"]


def test_one_lane_is_first_in_first_out(clock) -> None:
    queue = WorkQueue(Limits(max_batch_images=2), clock)
    for name in "abcde":
        put(queue, clock, Lane.IMAGE, name)
    assert [taken(queue) for _ in range(3)] == [["a", "b"], ["c", "d"], ["e"]]


def test_an_item_past_the_byte_bound_goes_alone(clock) -> None:
    queue = WorkQueue(Limits(max_batch_bytes=10), clock)
    big = item(Lane.BULK, clock, "big")
    big.size_bytes = 99
    queue.put(Lane.BULK, [big])
    put(queue, clock, Lane.BULK, "small")
    assert taken(queue) == ["big"]
    assert taken(queue) == ["small"]


def test_a_deadline_that_the_work_ahead_makes_impossible_is_refused_before_work(clock) -> None:
    queue = WorkQueue(Limits(), clock)
    queue.observe(Lane.TEXT, count=10, seconds=1.0)
    for number in range(20):
        put(queue, clock, Lane.TEXT, str(number))
    with pytest.raises(DeadlineExceeded):
        put(queue, clock, Lane.TEXT, "hasty", left_s=2.9)
    put(queue, clock, Lane.TEXT, "patient", left_s=3.1)


def test_a_deadline_shorter_than_the_fastest_batch_is_refused_before_work(clock) -> None:
    queue = WorkQueue(Limits(), clock)
    queue.observe(Lane.BULK, count=1, seconds=0.5)
    queue.observe(Lane.BULK, count=1, seconds=0.2)
    queue.observe(Lane.BULK, count=1, seconds=0.9)
    with pytest.raises(DeadlineExceeded):
        put(queue, clock, Lane.BULK, "hasty", left_s=0.19)
    put(queue, clock, Lane.BULK, "patient", left_s=0.21)


def test_one_slow_batch_refuses_nobody(clock) -> None:
    queue = WorkQueue(Limits(), clock)
    queue.observe(Lane.TEXT, count=1, seconds=0.01)
    queue.observe(Lane.TEXT, count=1, seconds=60.0)
    put(queue, clock, Lane.TEXT, "a", left_s=0.05)
    put(queue, clock, Lane.TEXT, "b", left_s=0.05)


def test_what_is_too_late_when_its_turn_comes_is_handed_out_as_expired(clock) -> None:
    queue = WorkQueue(Limits(), clock)
    late = put(queue, clock, Lane.TEXT, "late", left_s=1.0)
    put(queue, clock, Lane.TEXT, "fine", left_s=5.0)
    clock.now_s += 2.0
    batch = queue.take()
    assert batch is not None
    assert batch.expired == [late]
    assert [each.payload for each in batch.items] == ["fine"]
    assert not queue.join(late, in_s(clock, 60)), "what has expired can be joined no more"


def test_expired_items_take_no_place_in_a_batch(clock) -> None:
    queue = WorkQueue(Limits(max_batch_texts=2), clock)
    for number in range(5):
        put(queue, clock, Lane.TEXT, f"late {number}", left_s=1.0)
    put(queue, clock, Lane.TEXT, "a")
    put(queue, clock, Lane.TEXT, "b")
    clock.now_s += 2.0
    assert taken(queue) == ["a", "b"]


def test_the_time_to_try_again_grows_with_the_work_that_waits(clock) -> None:
    queue = WorkQueue(Limits(max_queued_texts=30), clock)
    queue.observe(Lane.TEXT, count=1, seconds=0.1)
    for number in range(30):
        put(queue, clock, Lane.TEXT, str(number))
    with pytest.raises(Overloaded) as caught:
        put(queue, clock, Lane.TEXT, "one too many")
    assert 2.9 <= caught.value.retry_after_s <= 3.1


def test_out_of_memory_in_one_image_lane_bounds_both(clock) -> None:
    queue = WorkQueue(Limits(max_batch_images=8), clock)
    queue.shrink(Lane.BULK, 2)
    queue.shrink(Lane.BULK, 4)
    for name in "abc":
        put(queue, clock, Lane.IMAGE, name)
    assert taken(queue) == ["a", "b"]


def test_a_closed_queue_takes_and_hands_out_nothing(clock) -> None:
    queue = WorkQueue(Limits(), clock)
    put(queue, clock, Lane.TEXT, "waiting")
    queue.close()
    assert queue.take() is None
    with pytest.raises(Unavailable):
        put(queue, clock, Lane.TEXT, "more")


def run(queue, lane, count, batches):
    for _ in range(batches):
        queue.observe(lane, count, 0.1)


def test_a_batch_that_was_shrunk_grows_again_after_many_full_ones_and_stops_at_its_bound():
    queue = WorkQueue(Limits(max_batch_images=32))
    queue.shrink(Lane.BULK, 16)
    run(queue, Lane.BULK, 16, 63)
    assert queue.max_batch(Lane.BULK) == 16
    run(queue, Lane.BULK, 16, 1)
    assert queue.max_batch(Lane.BULK) == queue.max_batch(Lane.IMAGE) == 18
    for size in range(18, 32, 2):
        run(queue, Lane.BULK, size, 64)
    run(queue, Lane.BULK, 32, 200)
    assert queue.max_batch(Lane.BULK) == 32


def test_batches_that_are_not_full_say_nothing_about_larger_ones():
    queue = WorkQueue(Limits(max_batch_texts=8))
    queue.shrink(Lane.TEXT, 4)
    run(queue, Lane.TEXT, 3, 1_000)
    run(queue, Lane.TEXT, 8, 1_000)  # the one that was halved, and the like
    assert queue.max_batch(Lane.TEXT) == 4


def test_a_batch_that_does_not_fit_again_has_to_wait_as_long_as_before():
    queue = WorkQueue(Limits(max_batch_texts=8))
    queue.shrink(Lane.TEXT, 4)
    run(queue, Lane.TEXT, 4, 63)
    queue.shrink(Lane.TEXT, 4)
    run(queue, Lane.TEXT, 4, 63)
    assert queue.max_batch(Lane.TEXT) == 4
    run(queue, Lane.TEXT, 4, 1)
    assert queue.max_batch(Lane.TEXT) == 5
