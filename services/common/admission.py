"""How many calls are worked on at once, in all and for each caller."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

from glimpse.errors import Overloaded

_RETRY_CALL_S = 0.1
_RETRY_STREAM_S = 1.0


class Admission:
    """A bounded number of places, owned by the event loop; without one, a call is refused.

    0 is no bound. Streams count among the calls, and on their own as well.
    """

    def __init__(
        self,
        max_in_flight: int = 0,
        max_in_flight_per_caller: int = 0,
        max_streams_per_caller: int = 0,
    ) -> None:
        self._max_in_flight = max_in_flight
        self._max_in_flight_per_caller = max_in_flight_per_caller
        self._max_streams_per_caller = max_streams_per_caller
        self._in_flight = 0
        self._calls: Counter[str] = Counter()
        self._streams: Counter[str] = Counter()

    @property
    def callers(self) -> frozenset[str]:
        """Those who hold a place."""
        return frozenset(self._calls)

    def check(self, caller: str, streaming: bool) -> None:
        """Raises Overloaded when there is no place for one call more; "" is an unknown caller.

        Before a call's message is read; whether it is taken is decided at `place`.
        """
        retry_after_s = _RETRY_STREAM_S if streaming else _RETRY_CALL_S
        if 0 < self._max_in_flight <= self._in_flight:
            raise Overloaded(
                f"{self._max_in_flight} calls are in progress; retry shortly",
                retry_after_s=retry_after_s,
            )
        for count, most, what in self._counts(streaming):
            if 0 < most <= count[caller]:
                raise Overloaded(
                    f"{most} {what} of this caller are in progress; retry shortly",
                    reason="CALLER_LIMIT",
                    retry_after_s=retry_after_s,
                )

    @contextlib.contextmanager
    def place(self, caller: str, streaming: bool) -> Iterator[None]:
        """Holds one place; raises Overloaded at once when there is none."""
        self.check(caller, streaming)
        counts = [count for count, _, _ in self._counts(streaming)]
        self._in_flight += 1
        for count in counts:
            count[caller] += 1
        try:
            yield
        finally:
            self._in_flight -= 1
            for count in counts:
                count[caller] -= 1
                if not count[caller]:
                    del count[caller]  # callers come and go; their names must not pile up

    def _counts(self, streaming: bool) -> list[tuple[Counter[str], int, str]]:
        """What a call counts towards: how many each caller has, the most it may have, of what."""
        counts = [(self._calls, self._max_in_flight_per_caller, "calls")]
        if streaming:
            counts.append((self._streams, self._max_streams_per_caller, "streams"))
        return counts
