"""A line of calls before a bounded number of places, and how long waiting in it will take.

Whoever finds no place waits, first come first served, if his time will suffice for it: that is
judged by how soon calls have ended lately. What waits costs memory and no work.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from glimpse.errors import DeadlineExceeded, GlimpseError, Overloaded

# What a waiting call takes besides its message.
_CALL_BYTES = 32 * 1024
# Whoever waits shall be answered: the pace may be wrong by a factor, and a service may stand still
# for a moment while many wait.
_CAUTION = 1.25
_STANDSTILL_S = 0.15
_MIN_RETRY_AFTER_S, _MAX_RETRY_AFTER_S = 0.1, 5.0
_RETRY_STREAM_S = 1.0
# Of this many calls, the last ones, the pace is the mean, or of half as many as wait: who looks far
# ahead must not judge by a moment, such as that in which all of them came. Longer ago, it says
# nothing any more.
_REMEMBERED_CALLS = 30
_REMEMBERED_S = 10.0


class Pace:
    """How soon calls end while places are scarce, learned from those that ended lately."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known_calls = 0
        self._mean_s = 0.0
        self._mean_beside = 0.0
        self._moved_at_s = -math.inf

    def resume(self) -> None:
        """From now on places are scarce, and calls should end."""
        if self._clock() - self._moved_at_s > _REMEMBERED_S:
            self._known_calls = 0
        self._moved_at_s = self._clock()

    def observe(self, took_s: float, beside: int, waiting: int = 0) -> None:
        """Learns from a call that has ended while `beside` calls, itself among them, had places,
        and `waiting` calls had none."""
        self.resume()
        self._known_calls = min(self._known_calls + 1, max(_REMEMBERED_CALLS, waiting // 2))
        self._mean_s += (took_s - self._mean_s) / self._known_calls
        self._mean_beside += (beside - self._mean_beside) / self._known_calls

    def expected_s(self, calls: int) -> float:
        """When so many calls will have ended, those that have places among them.

        If none has ended for a while, that is expected to go on for as long; where no pace is known
        yet, that is all that is expected.
        """
        still_s = self._clock() - self._moved_at_s
        if not self._known_calls:
            return still_s
        return still_s + calls * self._mean_s / self._mean_beside


@dataclass(eq=False)
class _Waiting:
    """A call in the line; `turn` is done once it has a place, or will not get one."""

    turn: asyncio.Future[None]
    size_bytes: int

    @property
    def has_place(self) -> bool:
        return self.turn.done() and not self.turn.cancelled() and self.turn.exception() is None


class WaitingLine:
    """`max_places` and the line before them, which may take `max_bytes`; owned by the event loop.

    Without any line, whoever finds no place is refused.
    """

    def __init__(
        self, max_places: int, max_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_places = max_places
        self._max_bytes = max_bytes
        self._clock = clock
        self._pace = Pace(clock)
        self._taken = 0
        self._bytes = 0
        self._line: OrderedDict[_Waiting, None] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Calls in the line."""
        return len(self._line)

    def check(self, *, waits: bool, size_bytes: int = 0) -> None:
        """Raises Overloaded where there is neither a place nor, for a call that `waits`, room."""
        if self._taken < self._max_places:
            return
        if not waits or not self._max_bytes:
            raise Overloaded(
                f"{self._max_places} calls are in progress; retry shortly",
                retry_after_s=_MIN_RETRY_AFTER_S if waits else _RETRY_STREAM_S,
            )
        if self._bytes + size_bytes + _CALL_BYTES > self._max_bytes:
            raise Overloaded(
                f"{len(self._line)} calls wait; there is no memory for one more; retry shortly"
            )

    @contextlib.asynccontextmanager
    async def place(self, left_s: float | None, size_bytes: int = 0) -> AsyncIterator[None]:
        """Holds a place, once there is one; `left_s` None: now or never, and for any time.

        Raises Overloaded at once where `left_s` seconds will not suffice to wait and be answered,
        DeadlineExceeded when they are over, and what end_waits() was given.
        """
        self.check(waits=left_s is not None, size_bytes=size_bytes)
        if left_s is not None:
            self._check_time(left_s)
        if self._taken < self._max_places:
            self._take()
        else:
            assert left_s is not None
            await self._wait(left_s, size_bytes)
        began_s = self._clock()
        try:
            yield
        finally:
            if left_s is not None and self._are_scarce:
                self._pace.observe(self._clock() - began_s, self._taken, len(self._line))
            self._give_back()

    def end_waits(self, error: GlimpseError) -> None:
        """Ends the wait of all in the line with `error`."""
        for waiting in self._line:
            if not waiting.turn.done():
                waiting.turn.set_exception(error)

    @property
    def _are_scarce(self) -> bool:
        """From half of the places on: fewer calls say nothing of what many would take."""
        return 2 * self._taken >= self._max_places

    def _check_time(self, left_s: float) -> None:
        if not self._are_scarce:
            return
        before = self._taken + len(self._line)
        needed_s = _CAUTION * self._pace.expected_s(before + 1)
        if self._taken == self._max_places:
            needed_s += _STANDSTILL_S
        if needed_s > left_s:
            missing_s = needed_s - left_s
            raise Overloaded(
                f"{before} calls come before this one, which may take {needed_s:.1f} s; "
                f"its deadline is in {left_s:.1f} s",
                retry_after_s=min(max(missing_s, _MIN_RETRY_AFTER_S), _MAX_RETRY_AFTER_S),
            )

    def _take(self) -> None:
        were_scarce = self._are_scarce
        self._taken += 1
        if self._are_scarce and not were_scarce:
            self._pace.resume()

    async def _wait(self, left_s: float, size_bytes: int) -> None:
        loop = asyncio.get_running_loop()
        waiting = _Waiting(loop.create_future(), size_bytes + _CALL_BYTES)
        self._line[waiting] = None
        self._bytes += waiting.size_bytes
        timer = loop.call_later(left_s, _expire, waiting.turn)
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if waiting.has_place:  # which came together with the end
                self._give_back()
            raise
        finally:
            timer.cancel()
            if waiting in self._line:
                del self._line[waiting]
                self._bytes -= waiting.size_bytes

    def _give_back(self) -> None:
        """Frees a place, for whoever has waited longest."""
        self._taken -= 1
        while self._line and self._taken < self._max_places:
            waiting, _ = self._line.popitem(last=False)
            self._bytes -= waiting.size_bytes
            if not waiting.turn.done():
                self._take()
                waiting.turn.set_result(None)


def _expire(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_exception(DeadlineExceeded("the deadline passed before there was a place"))
