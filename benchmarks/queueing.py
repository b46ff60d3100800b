"""A small simulation of searches that pass stations one after the other; what times they take there
is told, not known here."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.report import percentile

_SEARCHES = 10_000  # of one simulated rate
_WARM_UP = 1_000  # of these, whose times do not count
_HALVINGS = 8


@dataclass
class Pool:
    """Places that stations share: a machine's cores, or the one loop of a process."""

    free: int


@dataclass
class Station:
    """`servers` of one kind before one queue; each takes up to `batch` of those who wait, and
    `seconds(count)` for them, on a place of each of its pools."""

    name: str
    servers: int
    seconds: Callable[[int], float]
    batch: int = 1
    pools: tuple[Pool, ...] = ()
    queue: deque[int] = field(default_factory=deque)
    busy: int = 0
    busy_s: float = 0.0

    def may_start(self) -> bool:
        has_place = all(pool.free > 0 for pool in self.pools)
        return bool(self.queue) and self.busy < self.servers and has_place

    def start(self) -> tuple[list[int], float]:
        """Those who are served now, and for how long."""
        taken = [self.queue.popleft() for _ in range(min(self.batch, len(self.queue)))]
        seconds = self.seconds(len(taken))
        self.busy += 1
        self.busy_s += seconds
        for pool in self.pools:
            pool.free -= 1
        return taken, seconds

    def end(self) -> None:
        self.busy -= 1
        for pool in self.pools:
            pool.free += 1


@dataclass(frozen=True)
class Outcome:
    """What a rate did: its p99, and the share of the time that each station was busy."""

    per_s: float
    p99_ms: float
    busy: dict[str, float]


Make = Callable[[], Sequence[Station]]
"""New, empty stations, in the order in which a search passes them."""


def simulate(make: Make, per_s: float, seed: int = 1) -> Outcome:
    """An open loop at that rate; searches arrive at random, as people's do."""
    rng, stations = random.Random(seed), make()  # noqa: S311
    number = itertools.count()
    events: list[tuple[float, int, int, list[int]]] = []
    begun: list[float] = []
    now = 0.0
    for _ in range(_SEARCHES):
        now += rng.expovariate(per_s)
        heapq.heappush(events, (now, next(number), -1, [len(begun)]))
        begun.append(now)
    latencies_ms: list[float] = []

    def start_all(at: float) -> None:
        for place in reversed(range(len(stations))):  # what has come far goes first
            while stations[place].may_start():
                taken, seconds = stations[place].start()
                heapq.heappush(events, (at + seconds, next(number), place, taken))

    while events:
        now, _, place, who = heapq.heappop(events)
        if place >= 0:
            stations[place].end()
        if place + 1 < len(stations):
            stations[place + 1].queue.extend(who)
        else:
            latencies_ms += [1000 * (now - begun[each]) for each in who if each >= _WARM_UP]
        start_all(now)
    busy = {each.name: each.busy_s / (now * each.servers) for each in stations}
    return Outcome(per_s, percentile(latencies_ms, 0.99), busy)


def knee(make: Make, objective_ms: float, start_per_s: float) -> Outcome | None:
    """The highest rate with p99 within the objective; None where even next to none breaks it."""
    good: Outcome | None = None
    low, high = 0.0, start_per_s
    while (found := simulate(make, high)).p99_ms <= objective_ms:
        good, low, high = found, high, 1.5 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = simulate(make, middle)
        if found.p99_ms <= objective_ms:
            good, low = found, middle
        else:
            high = middle
    return good
