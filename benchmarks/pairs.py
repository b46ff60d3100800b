"""Two ways to do the same, held against each other in many short rounds.

On a machine that others use, too, a rate over seconds says as much about them as about what is
measured. A round takes each of the two twice, A B B A or B A A B, so that what changes from one
moment to the next hits both alike, and gives one ratio; the median of many is the figure. Beside
the clock stands the processor time of this process, which others hardly change.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.report import Bar, Figure, Spread

Action = Callable[[], object]


@dataclass(frozen=True)
class Pairs:
    """Of each round, how many times as fast the first action was as the second."""

    by_clock: list[float] = field(default_factory=list)
    by_processor_time: list[float] = field(default_factory=list)

    def figures(self, key: str, meaning: str, bar: Bar) -> list[Figure]:
        """The ratio by the clock, with its bar, and that by processor time, `…_cpu`, without."""
        return [
            _figure(key, meaning, self.by_clock, bar),
            _figure(f"{key}_cpu", "the same by processor time", self.by_processor_time, None),
        ]


def in_pairs(rounds: int, first: Action, second: Action) -> Pairs:
    """Takes both `rounds` times, which should be even, after each once for what only happens then.

    It has to be quiet in this process besides: all its threads' time is counted.
    """
    first()
    second()
    pairs = Pairs()
    for number in range(rounds):
        outer, inner = (first, second) if number % 2 == 0 else (second, first)
        spent = {outer: _Spent(), inner: _Spent()}
        for action in (outer, inner, inner, outer):
            spent[action].add(action)
        ours, theirs = spent[first], spent[second]
        pairs.by_clock.append(theirs.clock_s / ours.clock_s)
        pairs.by_processor_time.append(theirs.processor_s / ours.processor_s)
    return pairs


@dataclass
class _Spent:
    clock_s: float = 0.0
    processor_s: float = 0.0

    def add(self, action: Action) -> None:
        clock_s, processor_s = time.perf_counter(), time.process_time()
        action()
        self.clock_s += time.perf_counter() - clock_s
        self.processor_s += time.process_time() - processor_s


def _figure(key: str, meaning: str, ratios: list[float], bar: Bar | None) -> Figure:
    spread = Spread.middle_half(ratios)
    return Figure(key, meaning, spread.median, bar, spread)
