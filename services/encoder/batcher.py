"""Many callers share one device: whatever waits when the device is free is computed together.

It knows neither gRPC nor torch. There is no fixed wait: alone, a text goes at once; under load,
batches grow by themselves.

Who owns what: the worker thread owns the device, and lends it to the threads on which the device
lets others in; the event loop's thread owns everything else here (cache, waiters, figures). Between
them stand the WorkQueue and, back, call_soon_threadsafe. Stop order: close the queue, let the
running batch end, join the worker, fail whoever still waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from glimpse.errors import DeadlineExceeded, GlimpseError, Unavailable
from services.common.deadline import Deadline
from services.encoder.device import Device, DeviceLost, Payload, Vectors
from services.encoder.work_queue import Batch, Item, Lane, Limits, WorkQueue

_JOIN_TIMEOUT_S = 30.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Encoded:
    """One item's vector, float32 [D], unit, read-only; and where its time went, in microseconds."""

    vector: Vectors
    queue_us: int
    encode_us: int  # of the whole batch that held it
    batch: int  # that batch's number; 0 from the cache


Outcome = Encoded | Exception


@dataclass
class Figures:
    """Counts since the start, for metrics."""

    cache_hits: int = 0
    cache_misses: int = 0
    shared: int = 0  # texts that waited for the same text of another caller
    expired: int = 0
    failed: int = 0
    batches: dict[Lane, int] = field(default_factory=lambda: dict.fromkeys(Lane, 0))
    items: dict[Lane, int] = field(default_factory=lambda: dict.fromkeys(Lane, 0))
    busy_s: dict[Lane, float] = field(default_factory=lambda: dict.fromkeys(Lane, 0.0))


class Batcher:
    """The one way to the device. Make it and use it on one event loop."""

    def __init__(
        self,
        device: Device,
        limits: Limits,
        max_cached_texts: int,
        on_death: Callable[[BaseException], None],
        observe: Callable[[Batch, float], None] = lambda batch, encode_s: None,
    ) -> None:
        """`on_death` is called on the event loop when the worker has died; nothing works then.

        `observe` is called there with each batch that was computed, and the seconds it took.
        """
        self.figures = Figures()
        self._device = device
        self._queue = WorkQueue(limits)
        self._max_cached_texts = max_cached_texts
        self._on_death = on_death
        self._observe = observe
        self._cache: OrderedDict[bytes, Vectors] = OrderedDict()
        self._by_key: dict[bytes, Item] = {}  # unanswered texts
        self._unanswered: set[Item] = set()
        self._death: BaseException | None = None
        self._delivered = 0
        self._loop = asyncio.get_running_loop()
        self._worker = threading.Thread(target=self._work, name="encoder-device", daemon=True)
        self._worker.start()

    def waiting(self, lane: Lane) -> int:
        """Items that wait in the lane."""
        return self._queue.count(lane)

    def max_batch(self, lane: Lane) -> int:
        """Items of the lane that go through the device at once."""
        return self._queue.max_batch(lane)

    async def encode(
        self, lane: Lane, payloads: Sequence[Payload], deadline: Deadline
    ) -> list[Outcome]:
        """Return what became of each payload: token ids in lane TEXT, pixels [S, S, 3] in others.

        A failing item is an exception in its place. For the call as a whole, raises Overloaded (a
        lane is full), DeadlineExceeded (too late to begin) or Unavailable (stopping, or the worker
        died). Cancelling it takes its items out of the queue unless others wait for them too.
        """
        if self._death is not None:
            raise Unavailable("the encoder's worker has died", reason="WORKER_DIED")
        return list(await asyncio.gather(*self._admit(lane, payloads, deadline)))

    async def close(self) -> None:
        """Stop in the order that the module's docstring gives."""
        self._queue.close()
        await asyncio.to_thread(self._worker.join, _JOIN_TIMEOUT_S)
        self._fail_all(Unavailable("the encoder is stopping", reason="STOPPING"))

    # Event loop's thread

    def _admit(
        self, lane: Lane, payloads: Sequence[Payload], deadline: Deadline
    ) -> list[asyncio.Future[Outcome]]:
        """Return a future per payload; nothing has been queued where this raises."""
        now_s = time.monotonic()
        fresh: list[Item] = []
        places: list[Item | Encoded] = []
        by_key: dict[bytes, Item] = {}
        caller = object()  # each call takes its turns
        for payload in payloads:
            key = payload.tobytes() if lane is Lane.TEXT else None
            place = self._known(key, deadline) or by_key.get(key or b"")
            if place is None:
                place = Item(lane, payload, payload.nbytes, now_s, deadline, caller, key)
                fresh.append(place)
                if key is not None:
                    by_key[key] = place
            places.append(place)
        if fresh:
            self._queue.put(lane, fresh)
        self._unanswered.update(fresh)
        self._by_key.update(by_key)
        return [self._future(place, now_s) for place in places]

    def _known(self, key: bytes | None, deadline: Deadline) -> Encoded | Item | None:
        """The cached vector of a text, or the item of another caller that will give it."""
        if key is None:
            return None
        vector = self._cache.get(key)
        if vector is not None:
            self._cache.move_to_end(key)
            self.figures.cache_hits += 1
            return Encoded(vector, 0, 0, 0)
        self.figures.cache_misses += 1
        item = self._by_key.get(key)
        if item is not None and self._queue.join(item, deadline):
            self.figures.shared += 1
            return item
        return None

    def _future(self, place: Item | Encoded, now_s: float) -> asyncio.Future[Outcome]:
        future: asyncio.Future[Outcome] = self._loop.create_future()
        if isinstance(place, Encoded):
            future.set_result(place)
        else:
            place.waiters.append((future, now_s))
            future.add_done_callback(lambda done: done.cancelled() and self._leave(place))
        return future

    def _leave(self, item: Item) -> None:
        """Take an item whose callers are all gone out of the queue, if it still waits there."""
        if all(waiter.done() for waiter, _ in item.waiters) and self._queue.discard(item):
            self._forget(item)

    def _forget(self, item: Item) -> None:
        self._unanswered.discard(item)
        if item.key is not None and self._by_key.get(item.key) is item:
            del self._by_key[item.key]

    def _deliver(self, batch: Batch, answers: list[Vectors | Exception], encode_s: float) -> None:
        self._delivered += 1
        self.figures.batches[batch.lane] += 1
        self.figures.items[batch.lane] += len(batch.items)
        self.figures.busy_s[batch.lane] += encode_s
        self._observe(batch, encode_s)
        for item, answer in zip(batch.items, answers, strict=True):
            if isinstance(answer, Exception):
                self.figures.failed += 1
            elif item.key is not None:
                self._remember(item.key, answer)
            self._answer(item, answer, batch.taken_s, encode_s)

    def _expire(self, batch: Batch) -> None:
        self.figures.expired += len(batch.expired)
        for item in batch.expired:
            error = DeadlineExceeded("the deadline passed before the device was free")
            self._answer(item, error, batch.taken_s, 0)

    def _answer(
        self, item: Item, answer: Vectors | Exception, taken_s: float, encode_s: float
    ) -> None:
        self._forget(item)
        for waiter, arrived_s in item.waiters:
            if waiter.done():  # gone; the others of its batch are not harmed
                continue
            if isinstance(answer, Exception):
                waiter.set_result(answer)
            else:
                queue_us = int(max(taken_s - arrived_s, 0) * 1e6)
                waiter.set_result(Encoded(answer, queue_us, int(encode_s * 1e6), self._delivered))

    def _remember(self, key: bytes, vector: Vectors) -> None:
        kept = vector.copy()  # the row itself would keep its whole batch alive
        kept.flags.writeable = False
        self._cache[key] = kept
        while len(self._cache) > self._max_cached_texts:
            self._cache.popitem(last=False)

    def _fail_all(self, error: GlimpseError) -> None:
        for item in list(self._unanswered):
            self._answer(item, error, 0, 0)

    def _die(self, cause: BaseException) -> None:
        log.critical("the encoder's worker has died: %r", cause, exc_info=cause)
        self._death = cause
        self._queue.close()
        self._fail_all(Unavailable("the encoder's worker has died", reason="WORKER_DIED"))
        self._on_death(cause)

    # Worker thread, and those that it lends the device to

    def _work(self) -> None:
        try:
            while batch := self._queue.take():
                self._run(batch)
        except BaseException as error:
            self._call_loop(self._die, error)

    def _run(self, batch: Batch) -> None:
        if batch.expired:
            self._call_loop(self._expire, batch)
        if not batch.items:
            return
        answers = self._compute(batch, batch.items)
        encode_s = self._queue.observe(batch)
        self._call_loop(self._deliver, batch, answers, encode_s)

    def _compute(self, batch: Batch, items: list[Item]) -> list[Vectors | Exception]:
        """Compute items of a batch; where that fails, halves, down to the item that must fail."""
        try:
            return list(self._encode(batch, items))
        except DeviceLost:
            raise
        except Exception as error:
            if len(items) == 1:
                log.exception("an item of lane %s failed", batch.lane.value)
                return [error]
            half = len(items) // 2
            if isinstance(error, MemoryError):
                lane = batch.lane.value
                log.warning("out of memory: %s batches have %d items for now", lane, half)
                self._queue.shrink(batch.lane, half)
        return self._compute(batch, items[:half]) + self._compute(batch, items[half:])

    def _encode(self, batch: Batch, items: list[Item]) -> Vectors:
        payloads = [item.payload for item in items]
        if batch.lane is Lane.TEXT:
            vectors = self._device.encode_tokens(payloads)
        else:
            vectors = self._device.encode_pixels(payloads, partial(self._let_others_in, batch))
        vectors.flags.writeable = False
        return vectors

    def _let_others_in(self, batch: Batch) -> None:
        """Between two layers of an image batch: a text need not wait for the rest of them, nor a
        searched picture for the rest of a bulk batch."""
        if beside := self._queue.take_beside(batch):
            self._run(beside)

    def _call_loop(self, function: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and all callers with it
            self._loop.call_soon_threadsafe(function, *arguments)
