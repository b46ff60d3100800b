"""Single submissions become batches, several in flight; what a batch does is its owner's job."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from glimpse.errors import as_value
from services.common.event_loop import woken_in_turn

Item = TypeVar("Item")
Result = TypeVar("Result")


class StageBatcher(Generic[Item, Result]):
    """Collects items and hands them, in the order of their submission, to `work`.

    A batch goes when `max_items` wait, when the first of them has waited `wait_s`, or at flush();
    with `wait_s` of 0 whatever waits goes as soon as fewer than `max_in_flight` batches run. `work`
    returns one result per item, or an error in its place for an item that fails alone; if it
    raises, the whole batch fails.

    Owned by the event loop of its submitters. Stop order: close() cancels the running batches; the
    owner ends the submitters.
    """

    def __init__(
        self,
        work: Callable[[list[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        max_items: int,
        max_in_flight: int,
        wait_s: float = 0.0,
    ) -> None:
        self._work = work
        self._max_items = max_items
        self._max_in_flight = max_in_flight
        self._wait_s = wait_s
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._running: dict[asyncio.Task[None], int] = {}  # with the number of their items
        self._due = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Items that no running batch holds."""
        return len(self._waiting)

    @property
    def held(self) -> int:
        """Items that wait or are worked on; any thread may ask."""
        return len(self._waiting) + sum(tuple(self._running.values()))

    def submit(self, item: Item) -> asyncio.Future[Result]:
        """A future of the item's result; it raises the item's error, or its batch's."""
        waiter: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, waiter))
        self._schedule()
        return waiter

    def flush(self) -> None:
        """Lets everything that waits go without waiting longer."""
        self._due = True
        self._dispatch()

    async def close(self) -> None:
        """Cancels what runs and drops what waits; safe to call twice."""
        self._waiting.clear()
        self._stop_timer()
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _schedule(self) -> None:
        if len(self._waiting) >= self._max_items:
            self._dispatch()
        elif self._timer is None and not self._due:
            # Even with no wait, everything that this turn of the loop submits goes together.
            self._timer = asyncio.get_running_loop().call_later(self._wait_s, self.flush)

    def _dispatch(self) -> None:
        while self._waiting and len(self._running) < self._max_in_flight:
            if not self._due and len(self._waiting) < self._max_items:
                return
            size = min(self._max_items, len(self._waiting))
            batch = [self._waiting.popleft() for _ in range(size)]
            task = asyncio.create_task(self._run(batch))
            self._running[task] = size
            task.add_done_callback(self._ended)
        if not self._waiting:
            self._due = False
            self._stop_timer()

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._dispatch()

    async def _run(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._results(batch)
            async for (_, waiter), result in woken_in_turn(zip(batch, results, strict=True)):
                if waiter.done():
                    continue
                if isinstance(result, Exception):
                    waiter.set_exception(result)
                else:
                    waiter.set_result(result)
        except asyncio.CancelledError:
            for _, waiter in batch:
                waiter.cancel()
            raise

    async def _results(
        self, batch: list[tuple[Item, asyncio.Future[Result]]]
    ) -> Sequence[Result | Exception]:
        try:
            return await self._work([item for item, _ in batch])
        except Exception as error:  # each waiter reports it; nobody else is there to
            return [as_value(error) for _ in batch]

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
