"""The bounded queue between many callers and one device: who may enter, and who goes next.

It computes nothing and answers nobody. All state is guarded by one lock; the event loop's thread
puts, the worker thread takes.

Three lanes, in each of which calls take turns, one item each. Lanes that have work share the device
by their shares: a lane's clock goes on by the seconds that it had, divided by its share, and the
lane whose clock is the furthest behind is next; one that begins to wait begins where the others
are. Thus texts mostly pass images, interactive images mostly pass bulk images, and nobody starves.
It is start-time fair queueing: Goyal, Vin and Cheng, SIGCOMM 1996.
"""

from __future__ import annotations

import asyncio
import enum
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from glimpse.errors import DeadlineExceeded, Overloaded, Unavailable
from services.common.deadline import Deadline
from services.common.turns import Turns


class Lane(enum.Enum):
    """What an item is, and who waits for it."""

    TEXT = "text"
    IMAGE = "image"
    BULK = "bulk"


SHARES = {Lane.TEXT: 8, Lane.IMAGE: 4, Lane.BULK: 1}

# After so many full batches that memory was enough for, batches that were shrunk grow again by this
# share of their bound: they halve at once and grow slowly, as TCP's window does.
_GROW_AFTER_BATCHES = 64
_GROWTH = 1 / 16

# A batch that has begun is waited for: long texts beyond so many, which keep a device busy, and
# images that are let in beside bulk share one only as far as it computes them within this time at
# its best.
_FEW_TEXTS, _MAX_BATCH_S = 16, 0.1

_MIN_RETRY_AFTER_S, _MAX_RETRY_AFTER_S = 0.05, 5.0


@dataclass(frozen=True)
class Limits:
    """Bounds of the queue and of one batch."""

    max_batch_texts: int = 64
    max_batch_images: int = 32
    max_batch_bytes: int = 256 * 2**20
    max_queued_texts: int = 2048
    max_queued_images: int = 256  # for interactive and for bulk images, each
    # Who may be let in while images are computed; those of a device that computes images only one
    # batch after the other are texts.
    let_in: frozenset[Lane] = frozenset({Lane.TEXT, Lane.IMAGE})

    def max_batch(self, lane: Lane) -> int:
        return self.max_batch_texts if lane is Lane.TEXT else self.max_batch_images

    def max_queued(self, lane: Lane) -> int:
        return self.max_queued_texts if lane is Lane.TEXT else self.max_queued_images


@dataclass(eq=False)
class Item:
    """One text or image on its way to a vector. Times are seconds of the queue's clock.

    `caller` is who takes turns with others.
    """

    lane: Lane
    payload: Any
    size_bytes: int
    arrived_s: float
    deadline: Deadline
    caller: Hashable
    key: bytes | None = None  # equal keys have equal vectors
    expired: bool = False  # taken too late, and never computed
    # Each with its own arrival; owned by the event loop's thread, like `key`'s meaning.
    waiters: list[tuple[asyncio.Future[Any], float]] = field(default_factory=list)


@dataclass(frozen=True)
class Batch:
    """What the queue hands out at once: items of one lane to compute, and those taken too late."""

    lane: Lane
    items: list[Item]
    expired: list[Item]
    taken_s: float
    served_s: float  # what the device had done for all lanes until then


class WorkQueue:
    """Bounded lanes of items, and the least time that each kind was ever seen to take."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._max_batch = {lane: limits.max_batch(lane) for lane in Lane}
        self._full_batches = dict.fromkeys(Lane, 0)  # since one last shrank or grew
        self._lanes: dict[Lane, Turns[Item]] = {lane: Turns() for lane in Lane}
        self._lane_clocks_s = dict.fromkeys(Lane, 0.0)
        self._front_s = 0.0  # the clock of the lane that was served last
        self._served_s = 0.0
        # Bounds and not averages: who is refused for his deadline would surely have been late.
        self._least_batch_s: dict[Lane, float] = {}
        self._least_item_s: dict[Lane, float] = {}
        self._least_text_byte_s = 0.0
        self._changed = threading.Condition()
        self._closed = False

    def count(self, lane: Lane) -> int:
        """Items that wait in the lane."""
        return len(self._lanes[lane])

    def max_batch(self, lane: Lane) -> int:
        """Items of the lane that are handed out at once."""
        return self._max_batch[lane]

    def put(self, lane: Lane, items: Sequence[Item]) -> None:
        """Queue all of the items, which share one deadline, or none.

        Raises Overloaded where they do not fit, DeadlineExceeded where they would surely be late,
        Unavailable once the queue is closed.
        """
        with self._changed:
            if self._closed:
                raise Unavailable("the encoder is stopping", reason="STOPPING")
            line, bound = self._lanes[lane], self._limits.max_queued(lane)
            waiting, item_s = len(line), self._least_item_s.get(lane, 0.0)
            if waiting + len(items) > bound:
                after_s = min(max(waiting * item_s, _MIN_RETRY_AFTER_S), _MAX_RETRY_AFTER_S)
                raise Overloaded(
                    f"{waiting} of at most {bound} items wait in lane {lane.value}, "
                    f"{len(items)} more exceed the limit",
                    retry_after_s=after_s,
                )
            left_s = min(item.deadline.at_s for item in items) - self._clock()
            wait_s = line.count_before(len(items)) * item_s
            if left_s <= wait_s + self._least_batch_s.get(lane, 0.0):
                raise DeadlineExceeded(
                    f"{max(left_s, 0) * 1000:.0f} ms remain, too few for the queued work"
                )
            if not waiting:
                self._lane_clocks_s[lane] = max(self._lane_clocks_s[lane], self._front_s)
            for item in items:
                line.add(item.caller, item)
            self._changed.notify()

    def join(self, item: Item, deadline: Deadline) -> bool:
        """Let an item live until `deadline` too; False if it was taken too late already."""
        with self._changed:
            item.deadline = max(item.deadline, deadline, key=lambda each: each.at_s)
            return not item.expired

    def discard(self, item: Item) -> bool:
        """Take an item out that nobody wants any more; False if it does not wait here now."""
        with self._changed:
            return self._lanes[item.lane].discard(item.caller, item)

    def take(self) -> Batch | None:
        """Wait for work and return the next batch; None once the queue is closed."""
        with self._changed:
            while not self._closed:
                lane = self._next_lane(Lane)
                if lane is not None:
                    return self._pop(lane)
                self._changed.wait()
            return None

    def take_beside(self, batch: Batch) -> Batch | None:
        """Return items whose turn it is while `batch` is computed, of a lane with a larger share;
        None if there are none."""
        with self._changed:
            share = SHARES[batch.lane]
            batch_s = self._lane_clocks_s[batch.lane] + self._had_s(batch) / share
            lane = self._next_lane([each for each in self._limits.let_in if SHARES[each] > share])
            if lane is None or self._lane_clocks_s[lane] > batch_s:
                return None
            return self._pop(lane, is_beside=True)

    def observe(self, batch: Batch) -> float:
        """Learn from a batch that has been computed; returns the seconds since it was taken."""
        with self._changed:
            lane, count = batch.lane, len(batch.items)
            seconds, had_s = self._clock() - batch.taken_s, self._had_s(batch)
            self._served_s += had_s
            self._lane_clocks_s[lane] += had_s / SHARES[lane]
            item_s = seconds / count
            self._least_batch_s[lane] = min(self._least_batch_s.get(lane, seconds), seconds)
            self._least_item_s[lane] = min(self._least_item_s.get(lane, item_s), item_s)
            if lane is Lane.TEXT:
                byte_s = seconds / sum(item.size_bytes for item in batch.items)
                self._least_text_byte_s = min(self._least_text_byte_s or byte_s, byte_s)
            if count == self._max_batch[lane] < self._limits.max_batch(lane):
                self._full_batches[lane] += 1
                if self._full_batches[lane] >= _GROW_AFTER_BATCHES:
                    self._grow(lane)
            return seconds

    def shrink(self, lane: Lane, max_items: int) -> None:
        """Hand out at most `max_items` of this kind at once, until many such batches passed."""
        with self._changed:
            self._set_max_batch(lane, max(1, min(self._max_batch[lane], max_items)))

    def _grow(self, lane: Lane) -> None:
        bound = self._limits.max_batch(lane)
        step = max(1, int(bound * _GROWTH))
        self._set_max_batch(lane, min(bound, self._max_batch[lane] + step))

    def _set_max_batch(self, lane: Lane, max_items: int) -> None:
        # Both lanes of images take the same memory.
        for each in (Lane.TEXT,) if lane is Lane.TEXT else (Lane.IMAGE, Lane.BULK):
            self._max_batch[each] = max_items
            self._full_batches[each] = 0

    def close(self) -> None:
        """Take nothing more, hand out nothing more, and wake the worker."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _had_s(self, batch: Batch) -> float:
        """The seconds that a batch had so far, without those of others that were let in."""
        return self._clock() - batch.taken_s - (self._served_s - batch.served_s)

    def _next_lane(self, lanes: Iterable[Lane]) -> Lane | None:
        waiting = [lane for lane in lanes if self._lanes[lane]]
        return min(waiting, key=self._lane_clocks_s.__getitem__, default=None)

    def _pop(self, lane: Lane, is_beside: bool = False) -> Batch:
        batch = Batch(lane, [], [], self._clock(), self._served_s)
        self._front_s = max(self._front_s, self._lane_clocks_s[lane])
        too_late_s = batch.taken_s + self._least_batch_s.get(lane, 0.0)
        waiting, size_bytes = self._lanes[lane], 0
        while waiting and len(batch.items) < self._max_batch[lane]:
            item = waiting.first()
            item.expired = item.deadline.at_s <= too_late_s
            if not item.expired:
                size_bytes += item.size_bytes
                if batch.items and self._is_too_much(batch, size_bytes, is_beside):
                    break
            waiting.take()
            (batch.expired if item.expired else batch.items).append(item)
        return batch

    def _is_too_much(self, batch: Batch, size_bytes: int, is_beside: bool) -> bool:
        """Whether a batch that has some items would have too many with one more, and so many
        bytes."""
        count, seconds = len(batch.items), 0.0
        if batch.lane is not Lane.TEXT:
            seconds = (count + 1) * self._least_item_s.get(batch.lane, 0.0) * is_beside
        elif count >= _FEW_TEXTS:
            seconds = size_bytes * self._least_text_byte_s
        return seconds > _MAX_BATCH_S or size_bytes > self._limits.max_batch_bytes
