"""What attacks did: to the neighbours, and to the services; measuring it is run.py's job."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.hostile import ties

NOTICED_MS = 100.0
"""A wait that people notice, and that no attack should cause."""


@dataclass(frozen=True)
class Result:
    """What an attack did. waits_ms: of each well-behaved caller, the longest.

    Where an attack was noticed and made again, this is the median try; tries_ms are the longest
    waits of all of them, idle_ms is that between them, while nobody attacked.
    """

    name: str
    seconds: float
    waits_ms: dict[str, float]
    outcomes: Counter[str]
    troubles: Counter[str]
    busy_s: dict[str, float]
    log_bytes: int
    is_stuck: bool
    bugs: int
    tries_ms: list[int] = field(default_factory=list)
    idle_ms: float = 0.0

    @property
    def worst_ms(self) -> float:
        return max(self.waits_ms.values())

    @property
    def worst_caller(self) -> str:
        return max(self.waits_ms, key=self.waits_ms.__getitem__)

    def record(self) -> dict[str, object]:
        """For a report."""
        return {
            **vars(self),
            "waits_ms": {name: round(wait) for name, wait in self.waits_ms.items()},
            "outcomes": dict(self.outcomes),
            "troubles": dict(self.troubles),
            "worst_ms": round(self.worst_ms),
            "idle_ms": round(self.idle_ms),
            "worst_caller": self.worst_caller,
        }

    def __str__(self) -> str:
        answers = ", ".join(f"{name} {n}" for name, n in self.outcomes.most_common(3))
        busiest = max(self.busy_s, key=self.busy_s.__getitem__, default="")
        stuck = " STUCK" if self.is_stuck else ""
        return (
            f"{self.worst_ms:7,.0f} ms{stuck}  {self.worst_caller:24}  {self.name}  ({answers}; "
            f"{busiest} {self.busy_s.get(busiest, 0):.1f} s busy{self._tries()})"
        )

    def _tries(self) -> str:
        if len(self.tries_ms) < 2:
            return ""
        tries = ", ".join(map(str, self.tries_ms))
        return f"; tries {tries}, {self.idle_ms:.0f} between them"


@dataclass
class Outcome:
    """A whole run. Memory in bytes, by service; faults are what is wrong with the services."""

    seed: int
    results: list[Result] = field(default_factory=list)
    usual_ms: dict[str, float] = field(default_factory=dict)
    ties: ties.Measured | None = None
    listing_ms: list[float] = field(default_factory=list)
    first_bytes: dict[str, int] = field(default_factory=dict)
    last_bytes: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    restarts: Counter[str] = field(default_factory=Counter)

    @property
    def memory_ratios(self) -> dict[str, float]:
        return {name: self.last_bytes[name] / self.first_bytes[name] for name in self.last_bytes}

    @property
    def bugs(self) -> int:
        """INTERNAL, UNKNOWN and DATA_LOSS that attackers were answered."""
        return sum(result.bugs for result in self.results)
