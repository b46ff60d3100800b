"""The encoder's queue under a clock that the test turns: order, ageing, refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest

from glimpse.errors import DeadlineExceeded, Overloaded, Unavailable
from services.common.deadline import Deadline
from services.encoder.work_queue import SHARES, Batch, Item, Lane, Limits, WorkQueue
from tests.clock import Clock


def item(lane: Lane, clock: Clock, name: str = "", left_s: float = 60.0) -> Item:
    return Item(lane, name, 1, clock.now_s, in_s(clock, left_s), caller=object())


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


def put_call(queue: WorkQueue, clock: Clock, lane: Lane, names: str) -> None:
    """A call of several items, each named by a letter."""
    caller, deadline = object(), in_s(clock, 60)
    queue.put(lane, [Item(lane, name, 1, clock.now_s, deadline, caller) for name in names])


def compute(queue: WorkQueue, clock: Clock, seconds: float, batch: Batch | None = None) -> Lane:
    """Computes the next batch, or this one, for so long; its lane."""
    batch = batch or queue.take()
    assert batch is not None
    clock.now_s += seconds
    queue.observe(batch)
    return batch.lane


def test_lanes_that_always_have_work_get_their_shares_of_the_device(clock) -> None:
    queue = WorkQueue(Limits(max_batch_texts=1, max_batch_images=1), clock)
    seconds = {Lane.TEXT: 0.01, Lane.IMAGE: 0.02, Lane.BULK: 0.05}
    had_s = dict.fromkeys(Lane, 0.0)
    for _ in range(2_000):
        for lane in Lane:
            if not queue.count(lane):
                put(queue, clock, lane, "item")
        batch = queue.take()
        had_s[compute(queue, clock, seconds[batch.lane], batch)] += seconds[batch.lane]
    total_s, shares = sum(had_s.values()), sum(SHARES.values())
    for lane in Lane:
        assert had_s[lane] / total_s == pytest.approx(SHARES[lane] / shares, rel=0.05)


def test_a_bulk_image_waits_for_one_batch_of_a_flood_of_texts_not_for_all(clock) -> None:
    queue = WorkQueue(Limits(max_batch_texts=2), clock)
    put_call(queue, clock, Lane.TEXT, "abcdefgh")
    compute(queue, clock, 0.1)
    put(queue, clock, Lane.BULK, "bulk")
    order = [compute(queue, clock, 0.1) for _ in range(4)]
    assert order.index(Lane.BULK) <= 1


def test_a_text_passes_bulk_images_that_were_there_before(clock) -> None:
    queue = WorkQueue(Limits(max_batch_images=1), clock)
    put_call(queue, clock, Lane.BULK, "abcdefgh")
    compute(queue, clock, 1)
    compute(queue, clock, 1)
    put(queue, clock, Lane.TEXT, "text")
    assert compute(queue, clock, 0.01) is Lane.TEXT


def test_who_comes_back_has_no_claim_to_what_he_did_not_use(clock) -> None:
    queue = WorkQueue(Limits(max_batch_texts=1, max_batch_images=1), clock)
    for _ in range(100):  # bulk has not been there for long
        put(queue, clock, Lane.TEXT, "text")
        compute(queue, clock, 1)
    put_call(queue, clock, Lane.BULK, "abcd")
    put_call(queue, clock, Lane.TEXT, "efgh")
    order = [compute(queue, clock, 1) for _ in range(6)]
    assert order.count(Lane.TEXT) == 4


def test_texts_are_let_in_beside_images_until_they_had_their_share(clock) -> None:
    queue = WorkQueue(Limits(max_batch_texts=1), clock)
    put(queue, clock, Lane.BULK, "bulk")
    bulk = queue.take()
    put_call(queue, clock, Lane.TEXT, "abcdefgh")
    texts = queue.take_beside(bulk)
    compute(queue, clock, 0.8, texts)
    assert queue.take_beside(bulk) is None, "the images have had nothing of the device yet"
    clock.now_s += 0.2  # more than 1/8 of 0.8
    assert queue.take_beside(bulk) is not None


def test_pictures_are_let_in_beside_bulk_images_a_few_at_a_time(clock) -> None:
    queue = WorkQueue(Limits(), clock)
    put(queue, clock, Lane.IMAGE, "picture")
    compute(queue, clock, 0.03)
    put_call(queue, clock, Lane.BULK, "abcd")
    bulk = queue.take()
    clock.now_s += 0.1
    put_call(queue, clock, Lane.IMAGE, "efghijkl")
    beside = queue.take_beside(bulk)
    assert [each.payload for each in beside.items] == ["e", "f", "g"], "0.1 s at 0.03 s each"
    put(queue, clock, Lane.BULK, "bulk")
    assert queue.take_beside(beside) is None, "neither images nor bulk are let in beside images"
    put(queue, clock, Lane.TEXT, "text")
    assert queue.take_beside(beside).lane is Lane.TEXT


def test_a_device_that_computes_one_batch_of_images_at_a_time_lets_texts_in_only(clock) -> None:
    queue = WorkQueue(Limits(let_in=frozenset({Lane.TEXT})), clock)
    put(queue, clock, Lane.BULK, "bulk")
    bulk = queue.take()
    clock.now_s += 0.1
    put(queue, clock, Lane.IMAGE, "picture")
    assert queue.take_beside(bulk) is None
    put(queue, clock, Lane.TEXT, "text")
    assert queue.take_beside(bulk).lane is Lane.TEXT


def test_calls_of_a_lane_take_turns(clock) -> None:
    queue = WorkQueue(Limits(max_batch_texts=4), clock)
    put_call(queue, clock, Lane.TEXT, "abcdefg")
    put_call(queue, clock, Lane.TEXT, "x")
    put_call(queue, clock, Lane.TEXT, "yz")
    assert taken(queue) == ["a", "x", "y", "b"]


def test_a_small_call_is_not_refused_for_the_work_of_a_large_one(clock) -> None:
    queue = WorkQueue(Limits(), clock)
    observe(queue, clock, Lane.TEXT, 1, 0.1)
    put_call(queue, clock, Lane.TEXT, "abcdefghijklmnopqrst")
    put(queue, clock, Lane.TEXT, "small", left_s=0.3)


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
    observe(queue, clock, Lane.TEXT, 10, 1.0)
    for number in range(20):
        put(queue, clock, Lane.TEXT, str(number))
    with pytest.raises(DeadlineExceeded):
        put(queue, clock, Lane.TEXT, "hasty", left_s=2.9)
    put(queue, clock, Lane.TEXT, "patient", left_s=3.1)


def test_a_deadline_shorter_than_the_fastest_batch_is_refused_before_work(clock) -> None:
    queue = WorkQueue(Limits(), clock)
    observe(queue, clock, Lane.BULK, 1, 0.5)
    observe(queue, clock, Lane.BULK, 1, 0.2)
    observe(queue, clock, Lane.BULK, 1, 0.9)
    with pytest.raises(DeadlineExceeded):
        put(queue, clock, Lane.BULK, "hasty", left_s=0.19)
    put(queue, clock, Lane.BULK, "patient", left_s=0.21)


def test_one_slow_batch_refuses_nobody(clock) -> None:
    queue = WorkQueue(Limits(), clock)
    observe(queue, clock, Lane.TEXT, 1, 0.01)
    observe(queue, clock, Lane.TEXT, 1, 60.0)
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
    observe(queue, clock, Lane.TEXT, 1, 0.1)
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


def observe(queue: WorkQueue, clock: Clock, lane: Lane, count: int, seconds: float) -> None:
    """As if so many items had been computed together; nothing else waits."""
    put(queue, clock, lane, "one")
    batch = queue.take()
    compute(queue, clock, seconds, replace(batch, items=batch.items * count))


def run(queue, clock, lane, count, batches):
    for _ in range(batches):
        observe(queue, clock, lane, count, 0.1)


def test_a_batch_that_was_shrunk_grows_again_after_many_full_ones_and_stops_at_its_bound(clock):
    queue = WorkQueue(Limits(max_batch_images=32), clock)
    queue.shrink(Lane.BULK, 16)
    run(queue, clock, Lane.BULK, 16, 63)
    assert queue.max_batch(Lane.BULK) == 16
    run(queue, clock, Lane.BULK, 16, 1)
    assert queue.max_batch(Lane.BULK) == queue.max_batch(Lane.IMAGE) == 18
    for size in range(18, 32, 2):
        run(queue, clock, Lane.BULK, size, 64)
    run(queue, clock, Lane.BULK, 32, 200)
    assert queue.max_batch(Lane.BULK) == 32


def test_batches_that_are_not_full_say_nothing_about_larger_ones(clock):
    queue = WorkQueue(Limits(max_batch_texts=8), clock)
    queue.shrink(Lane.TEXT, 4)
    run(queue, clock, Lane.TEXT, 3, 1_000)
    run(queue, clock, Lane.TEXT, 8, 1_000)  # the one that was halved, and the like
    assert queue.max_batch(Lane.TEXT) == 4


def test_a_batch_that_does_not_fit_again_has_to_wait_as_long_as_before(clock):
    queue = WorkQueue(Limits(max_batch_texts=8), clock)
    queue.shrink(Lane.TEXT, 4)
    run(queue, clock, Lane.TEXT, 4, 63)
    queue.shrink(Lane.TEXT, 4)
    run(queue, clock, Lane.TEXT, 4, 63)
    assert queue.max_batch(Lane.TEXT) == 4
    run(queue, clock, Lane.TEXT, 4, 1)
    assert queue.max_batch(Lane.TEXT) == 5


def test_a_batch_of_long_texts_is_cut_by_the_time_that_they_take(clock) -> None:
    queue = WorkQueue(Limits(max_batch_texts=64, max_queued_texts=200), clock)
    put_call(queue, clock, Lane.TEXT, "a" * 64)
    compute(queue, clock, seconds=0.19)  # at best 3 ms for each
    put_call(queue, clock, Lane.TEXT, "a" * 70)
    compute(queue, clock, seconds=9.0)  # beside much else: says nothing of the device
    assert [len(taken(queue)) for _ in range(2)] == [33, 4]
    longest = [item(Lane.TEXT, clock) for _ in range(20)]
    for each in longest:
        each.size_bytes = 1_000
    queue.put(Lane.TEXT, longest)
    assert [len(taken(queue)) for _ in range(2)] == [16, 4], "few keep no device busy"
