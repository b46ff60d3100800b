"""Whether all is as usual on a stack: its neighbours' waits, and whether its processes still work
on something. Attacking it is not its job.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.cpu_time import Usage
from glimpse.cli.local.stack import Stack
from tests.hostile.neighbours import Neighbours

CALM_TIMEOUT_S = 10.0
"""After which a service is taken to be stuck."""

_FIRST_CALM_TIMEOUT_S = 60.0
_LOOKS, _WORKING_LOOKS, _LOOK_S = 10, 7, 0.02


class Watch:
    """Of a started stack, and of neighbours who call it."""

    def __init__(self, stack: Stack, neighbours: Neighbours) -> None:
        self._stack = stack
        self._neighbours = neighbours

    def learn_usual_ms(self, seconds: float) -> dict[str, float]:
        """What each neighbour mostly waits while nobody attacks."""
        self._neighbours.await_calm(time.monotonic(), _FIRST_CALM_TIMEOUT_S)
        return self._neighbours.learn_usual_ms(seconds)

    def await_calm(self, timeout_s: float = CALM_TIMEOUT_S) -> bool:
        """Waits until each neighbour is answered as usual, and no process has other work; False if
        that does not come."""
        ends_s = time.monotonic() + timeout_s
        while (now_s := time.monotonic()) < ends_s:
            works = self._works()  # the neighbours go on calling meanwhile
            if not self._neighbours.await_calm(now_s, ends_s - time.monotonic()):
                return False
            if not works:
                return True
        return False

    def await_rest(self, timeout_s: float = CALM_TIMEOUT_S) -> bool:
        """Waits until no process has other work than what the neighbours ask for; False if that
        does not come. How long they wait is not looked at."""
        ends_s = time.monotonic() + timeout_s
        while self._works():
            if time.monotonic() > ends_s:
                return False
        return True

    def usage(self) -> Usage:
        """Of the stack's processes so far. Raises OSError where one has ended."""
        return Usage.now({name: process.pid for name, process in self._stack.processes.items()})

    def spent_s(self, since: Usage) -> dict[str, float]:
        """Processor seconds of each process. Raises OSError where one has ended."""
        now = self.usage().by_process_s
        return {name: round(now[name] - s, 2) for name, s in since.by_process_s.items()}

    def _works(self) -> bool:
        """Whether a thread has something to do at most looks: calls of neighbours are short."""
        seen: Counter[Path] = Counter()
        for looks_left in reversed(range(_LOOKS)):
            seen.update(self._running())
            most = max(seen.values(), default=0)
            if most >= _WORKING_LOOKS or most + looks_left < _WORKING_LOOKS:
                return most >= _WORKING_LOOKS
            time.sleep(_LOOK_S)  # there is nothing to wait on: it is seen from outside
        return False

    def _running(self) -> Iterator[Path]:
        """Threads that run, or would if there were a processor for them."""
        for process in self._stack.processes.values():
            for thread in Path(f"/proc/{process.pid}/task").glob("*"):
                with contextlib.suppress(OSError):  # it has ended meanwhile
                    if (thread / "stat").read_text().rpartition(")")[2].split()[0] in "RD":
                        yield thread
