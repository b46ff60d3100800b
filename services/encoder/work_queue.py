"""The bounded queue between many callers and one device: who may enter, and who goes next.

It computes nothing and answers nobody. All state is guarded by one lock; the event loop's thread
puts, the worker thread takes.

Three lanes, first in first out. The next batch comes from the lane whose first item has the
earliest arrival plus the lane's handicap: texts pass images, interactive images pass bulk images,
and whoever has waited for as long as its handicap is passed no more, so nobody starves.
"""

from __future__ import annotations

import asyncio
import enum
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from glimpse.errors import DeadlineExceeded, Overloaded, Unavailable
from services.common.deadline import Deadline


class Lane(enum.Enum):
    """What an item is, and who waits for it; each lane goes before those that follow."""

    TEXT = "text"
    IMAGE = "image"
    BULK = "bulk"


HANDICAPS_S = {Lane.TEXT: 0.0, Lane.IMAGE: 0.25, Lane.BULK: 2.0}

# After so many full batches that memory was enough for, batches that were shrunk grow again by this
# share of their bound: they halve at once and grow slowly, as TCP's window does.
_GROW_AFTER_BATCHES = 64
_GROWTH = 1 / 16

_MIN_RETRY_AFTER_S, _MAX_RETRY_AFTER_S = 0.05, 5.0


@dataclass(frozen=True)
class Limits:
    """Bounds of the queue and of one batch."""

    max_batch_texts: int = 64
    max_batch_images: int = 32
    max_batch_bytes: int = 256 * 2**20
    max_queued_texts: int = 2048
    max_queued_images: int = 256  # for interactive and for bulk images, each

    def max_batch(self, lane: Lane) -> int:
        return self.max_batch_texts if lane is Lane.TEXT else self.max_batch_images

    def max_queued(self, lane: Lane) -> int:
        return self.max_queued_texts if lane is Lane.TEXT else self.max_queued_images


@dataclass(eq=False)
class Item:
    """One text or image on its way to a vector. Times are seconds of the queue's clock."""

    lane: Lane
    payload: Any
    size_bytes: int
    arrived_s: float
    deadline: Deadline
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


class WorkQueue:
    """Bounded lanes of items, and the least time that each kind was ever seen to take."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._max_batch = {lane: limits.max_batch(lane) for lane in Lane}
        self._full_batches = dict.fromkeys(Lane, 0)  # since one last shrank or grew
        self._lanes: dict[Lane, OrderedDict[Item, None]] = {lane: OrderedDict() for lane in Lane}
        # Bounds and not averages: who is refused for his deadline would surely have been late.
        self._least_batch_s: dict[Lane, float] = {}
        self._least_item_s: dict[Lane, float] = {}
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
            waiting, bound = len(self._lanes[lane]), self._limits.max_queued(lane)
            wait_s = self._least_wait_s(lane)
            if waiting + len(items) > bound:
                after_s = min(max(wait_s, _MIN_RETRY_AFTER_S), _MAX_RETRY_AFTER_S)
                raise Overloaded(
                    f"{waiting} of at most {bound} items wait in lane {lane.value}, "
                    f"{len(items)} more exceed the limit",
                    retry_after_s=after_s,
                )
            left_s = min(item.deadline.at_s for item in items) - self._clock()
            if left_s <= wait_s + self._least_batch_s.get(lane, 0.0):
                raise DeadlineExceeded(
                    f"{max(left_s, 0) * 1000:.0f} ms remain, too few for the queued work"
                )
            self._lanes[lane].update((item, None) for item in items)
            self._changed.notify()

    def join(self, item: Item, deadline: Deadline) -> bool:
        """Let an item live until `deadline` too; False if it was taken too late already."""
        with self._changed:
            item.deadline = max(item.deadline, deadline, key=lambda each: each.at_s)
            return not item.expired

    def discard(self, item: Item) -> bool:
        """Take an item out that nobody wants any more; False if it does not wait here now."""
        with self._changed:
            waits = item in self._lanes[item.lane]
            if waits:
                del self._lanes[item.lane][item]
            return waits

    def take(self) -> Batch | None:
        """Wait for work and return the next batch; None once the queue is closed."""
        with self._changed:
            while not self._closed:
                lane = self._next_lane()
                if lane is not None:
                    return self._pop(lane)
                self._changed.wait()
            return None

    def take_texts(self) -> Batch | None:
        """Return the texts that wait now, up to a batch; None if there are none."""
        with self._changed:
            return self._pop(Lane.TEXT) if self._lanes[Lane.TEXT] else None

    def observe(self, lane: Lane, count: int, seconds: float) -> None:
        """Learn from a batch of `count` items that took `seconds`."""
        item_s = seconds / count
        with self._changed:
            self._least_batch_s[lane] = min(self._least_batch_s.get(lane, seconds), seconds)
            self._least_item_s[lane] = min(self._least_item_s.get(lane, item_s), item_s)
            if count == self._max_batch[lane] < self._limits.max_batch(lane):
                self._full_batches[lane] += 1
                if self._full_batches[lane] >= _GROW_AFTER_BATCHES:
                    self._grow(lane)

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

    def _least_wait_s(self, lane: Lane) -> float:
        """The least time of the work that goes before a new item of the lane."""
        lanes = list(Lane)
        ahead = lanes[: lanes.index(lane) + 1]
        return sum(len(self._lanes[each]) * self._least_item_s.get(each, 0.0) for each in ahead)

    def _next_lane(self) -> Lane | None:
        heads = [(lane, next(iter(items))) for lane, items in self._lanes.items() if items]
        if not heads:
            return None
        return min(heads, key=lambda head: head[1].arrived_s + HANDICAPS_S[head[0]])[0]

    def _pop(self, lane: Lane) -> Batch:
        batch = Batch(lane, [], [], taken_s=self._clock())
        too_late_s = batch.taken_s + self._least_batch_s.get(lane, 0.0)
        waiting, size_bytes = self._lanes[lane], 0
        while waiting and len(batch.items) < self._max_batch[lane]:
            item = next(iter(waiting))
            item.expired = item.deadline.at_s <= too_late_s
            if not item.expired:
                size_bytes += item.size_bytes
                if batch.items and size_bytes > self._limits.max_batch_bytes:
                    break
            del waiting[item]
            (batch.expired if item.expired else batch.items).append(item)
        return batch
