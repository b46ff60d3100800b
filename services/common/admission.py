"""Which calls are worked on at once, in all and of each caller, and which of the others wait."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator

from glimpse.errors import GlimpseError, Overloaded
from services.common.waiting_line import WaitingLine

_RETRY_CALL_S = 0.1
_RETRY_STREAM_S = 1.0


class Admission:
    """A bounded number of places, and a line before them; owned by the event loop.

    0 is no bound, and no line. A stream has its place at once or is refused, as it may last for
    hours. Streams count among the calls, and on their own as well; calls in the line among their
    caller's.
    """

    def __init__(
        self,
        max_in_flight: int = 0,
        max_in_flight_per_caller: int = 0,
        max_streams_per_caller: int = 0,
        max_waiting_bytes: int = 0,
    ) -> None:
        self._line = WaitingLine(max_in_flight, max_waiting_bytes) if max_in_flight else None
        self._max_in_flight_per_caller = max_in_flight_per_caller
        self._max_streams_per_caller = max_streams_per_caller
        self._calls: Counter[str] = Counter()
        self._streams: Counter[str] = Counter()

    @property
    def callers(self) -> frozenset[str]:
        """Those who hold a place, or wait for one."""
        return frozenset(self._calls)

    @property
    def waiting(self) -> int:
        """Calls in the line."""
        return self._line.waiting if self._line is not None else 0

    def check(self, caller: str, streaming: bool) -> None:
        """Raises Overloaded when there is no room for one call more; "" is an unknown caller.

        Before a call's message is read; whether it is taken is decided at `place`.
        """
        if self._line is not None:
            self._line.check(waits=not streaming)
        for count, most, what in self._counts(streaming):
            if 0 < most <= count[caller]:
                raise Overloaded(
                    f"{most} {what} of this caller are in progress; retry shortly",
                    reason="CALLER_LIMIT",
                    retry_after_s=_RETRY_STREAM_S if streaming else _RETRY_CALL_S,
                )

    @contextlib.asynccontextmanager
    async def place(
        self, caller: str, left_s: float | None, size_bytes: int = 0
    ) -> AsyncIterator[None]:
        """Holds one place, after a wait where there is none now; `left_s` is None for a stream.

        `size_bytes` are those of the call's message. Raises Overloaded at once where it would be
        answered too late, DeadlineExceeded when `left_s` are over, and what end_waits() was given.
        """
        self.check(caller, streaming=left_s is None)
        counts = [count for count, _, _ in self._counts(left_s is None)]
        for count in counts:
            count[caller] += 1
        try:
            if self._line is None:
                yield
            else:
                async with self._line.place(left_s, size_bytes):
                    yield
        finally:
            for count in counts:
                count[caller] -= 1
                if not count[caller]:
                    del count[caller]  # callers come and go; their names must not pile up

    def end_waits(self, error: GlimpseError) -> None:
        """Fails all calls in the line with `error`."""
        if self._line is not None:
            self._line.end_waits(error)

    def _counts(self, streaming: bool) -> list[tuple[Counter[str], int, str]]:
        """What a call counts towards: how many each caller has, the most it may have, of what."""
        counts = [(self._calls, self._max_in_flight_per_caller, "calls")]
        if streaming:
            counts.append((self._streams, self._max_streams_per_caller, "streams"))
        return counts
