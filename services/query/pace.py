"""Whether a search can still be answered in time, judged by those before it; it answers none.

By Little's law, N searches under way, of which each takes L seconds, are N / L searches per second:
L / N seconds for each. A newcomer behind N others takes about (N + 1) times that. Who would surely
be late is better refused at once: working on answers that nobody waits for any more would make all
others late as well.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from services.common.errors import Overloaded

# How much of its time a search may be expected to take. Some take twice as long as the average.
_MAX_SHARE = 0.5
# So many are let in whatever is expected, since one slow answer must not shut the door for good.
_FREE_PLACES = 4
# How much less each search counts than the one after it.
_DECAY = 7 / 8


class Pace:
    """Seconds that each search takes, as of late; owned by the event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._under_way = 0
        # Sums over the searches of late; crowded ones count for more, since they tell more.
        self._seconds = 0.0
        self._crowd = 0.0

    @contextlib.contextmanager
    def place(self, left_s: float, searches: int = 1) -> Iterator[None]:
        """Holds the place of a call of some searches, which has `left_s` seconds.

        Raises Overloaded where they are expected to be too few. It learns from calls that end well.
        """
        under_way = self._under_way + searches
        expected_s = under_way * self._seconds / self._crowd if self._crowd else 0.0
        if self._under_way >= _FREE_PLACES and expected_s > _MAX_SHARE * left_s:
            raise Overloaded(
                f"{self._under_way} searches are under way, and {left_s * 1000:.0f} ms are too few "
                "to be answered after them; try again shortly",
                retry_after_ms=int(expected_s * 1000),
            )
        self._under_way = under_way
        started_s = self._clock()
        try:
            yield
            # Of a burst, the first ones began alone but shared their time with all.
            self._learn(self._clock() - started_s, max(under_way, self._under_way))
        finally:
            self._under_way -= searches

    def _learn(self, seconds: float, crowd: int) -> None:
        self._seconds = _DECAY * self._seconds + seconds
        self._crowd = _DECAY * self._crowd + crowd
