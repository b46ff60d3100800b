"""Whether all is as usual on a stack: its neighbours' waits, and what its processes use of the
processors. Attacking it is not its job.
"""

from __future__ import annotations

import time

from benchmarks.cpu_time import Usage
from glimpse.cli.stack import Stack
from tests.hostile.neighbours import Neighbours

CALM_TIMEOUT_S = 10.0
"""After which a service is taken to be stuck."""

_FIRST_CALM_TIMEOUT_S = 60.0
_LOOK_S = 0.1
_CORES = 0.3  # more than usual: it still works on what it was attacked with


class Watch:
    """Of a started stack, and of neighbours who call it."""

    def __init__(self, stack: Stack, neighbours: Neighbours) -> None:
        self.usual_ms: dict[str, float] = {}
        """What each neighbour mostly waits."""
        self.usual_cores: dict[str, float] = {}
        """What each process uses on average."""
        self._stack = stack
        self._neighbours = neighbours

    def learn_usual(self, seconds: float) -> None:
        """While nobody attacks."""
        self._neighbours.await_calm(time.monotonic(), _FIRST_CALM_TIMEOUT_S)
        before, begin_s = self.usage(), time.monotonic()
        self.usual_ms = self._neighbours.learn_usual(seconds)
        passed_s = time.monotonic() - begin_s
        for name, spent_s in self.spent_s(before).items():
            self.usual_cores[name] = spent_s / passed_s

    def await_calm(self, timeout_s: float = CALM_TIMEOUT_S) -> bool:
        """Waits until each neighbour is answered as usual, and no process has other work; False if
        that does not come, or a process has ended."""
        ends_s = time.monotonic() + timeout_s
        while (now_s := time.monotonic()) < ends_s:
            try:
                before = self.usage()
                time.sleep(_LOOK_S)  # work shows in what a while has taken of the processors
                if not self._neighbours.await_calm(now_s, ends_s - now_s):
                    return False
                spent_s = self.spent_s(before)
            except OSError:
                return False
            passed_s = time.monotonic() - now_s
            if all(
                spent_s[name] / passed_s <= self.usual_cores.get(name, 0) + _CORES
                for name in self._stack.processes
            ):
                return True
        return False

    def usage(self) -> Usage:
        """Of the stack's processes so far. Raises OSError where one has ended."""
        return Usage.now({name: process.pid for name, process in self._stack.processes.items()})

    def spent_s(self, since: Usage) -> dict[str, float]:
        """Processor seconds of each process. Raises OSError where one has ended."""
        now = self.usage().by_process_s
        return {
            name: round(now[name] - before_s, 2) for name, before_s in since.by_process_s.items()
        }
