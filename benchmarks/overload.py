"""Searches at twice the capacity: how long accepted calls take, and refused ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.generator import Job
from benchmarks.load import Answers
from benchmarks.report import percentile

_REFUSED = "RESOURCE_EXHAUSTED"


@dataclass(frozen=True)
class Overload:
    """What came of an open loop at `per_s`, twice of what 32 callers get."""

    answers: Answers
    capacity_per_s: float
    per_s: float
    deadline_s: float

    @property
    def accepted_p99_ms(self) -> float:
        return self.answers.ms(0.99)

    @property
    def refusal_p99_ms(self) -> float:
        """0 where none was refused."""
        return percentile(self._refused_ms, 0.99) if self._refused_ms else 0.0

    @property
    def lost(self) -> int:
        """Calls that ended neither with an answer nor with a refusal, and those that hang."""
        statuses = self.answers.latencies_ms
        others = (len(values) for status, values in statuses.items() if status != "OK")
        return sum(others) - len(self._refused_ms) + self.answers.unanswered

    @property
    def _refused_ms(self) -> list[float]:
        return self.answers.latencies_ms.get(_REFUSED, [])

    def record(self) -> dict[str, object]:
        """For a report."""
        refused_ms = self._refused_ms
        return {
            "rate_per_s": round(self.per_s, 1),
            "capacity_per_s": round(self.capacity_per_s, 1),
            "deadline_ms": self.deadline_s * 1000,
            "refusal_p50_ms": round(percentile(refused_ms, 0.5), 2) if refused_ms else None,
            "refusal_p99_ms": round(self.refusal_p99_ms, 2),
            "refusal_max_ms": round(max(refused_ms, default=0.0), 2),
            "generator_late_p99_ms": round(percentile(self.answers.late_ms, 0.99), 2),
        }


def measure(
    load: Callable[[Job], Answers], seconds: float, overload_seconds: float, deadline_s: float
) -> Overload:
    """Finds the capacity, and asks for twice of it; `load` runs a job."""
    capacity = load(Job("search", seconds, callers=32)).whole()
    per_s = 2 * capacity.per_s
    answers = load(Job("search", overload_seconds, per_s=per_s, deadline_s=deadline_s))
    return Overload(answers, capacity.per_s, per_s, deadline_s)
