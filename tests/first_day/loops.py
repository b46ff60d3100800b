"""Searches by more callers than there are places: closed loops, and twice the capacity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks import overload
from benchmarks.generator import Generator, Job
from benchmarks.load import Answers
from benchmarks.overload import Overload

CALLERS = (50, 200, 1_000)

_DEADLINE_S = 10.0
_OVERLOAD_DEADLINE_S = 1.0
_WARM_UP_S = 2.0


@dataclass
class Loops:
    """What closed loops of so many callers were answered."""

    answers: dict[int, Answers] = field(default_factory=dict)

    @property
    def errors(self) -> int:
        """Calls that did not end with an answer."""
        return sum(each.failed + each.unanswered for each in self.answers.values())

    def record(self) -> dict[str, object]:
        """For a report."""
        return {str(callers): answers.summary() for callers, answers in self.answers.items()}


@contextmanager
def generator(addresses: Mapping[str, str], collection: str) -> Iterator[Generator]:
    """Calls the services at these addresses, which are warm then."""
    with Generator(addresses["encoder"], addresses["query"], collection, seed=5) as started:
        started.run(Job("search", _WARM_UP_S, callers=8)).whole()
        yield started


def measure(load: Generator, seconds: float, callers: Sequence[int] = CALLERS) -> Loops:
    """Each closed loop in turn; every text is new, every call has ten seconds."""
    return Loops(
        {
            count: load.run(Job("search", seconds, callers=count, deadline_s=_DEADLINE_S))
            for count in callers
        }
    )


def measure_overload(load: Generator, seconds: float) -> Overload:
    """An open loop at twice the capacity whose calls have a second, as in `make bench-search`."""
    return overload.measure(load.run, seconds, seconds, _OVERLOAD_DEADLINE_S)
