"""What callers met while pods were replaced, as figures with their bars."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.report import Bar, Figure, percentile
from tests.cluster.callers import Call

BACK_S = 30.0
"""How long after the encoder's return a search may still fail."""

CALM, ROTATION, PODS, ENCODER, CONTROL = (
    "nothing",
    "certificates",
    "query and indexer",
    "encoder",
    "query without its drain",
)
"""What was replaced while callers called."""

_NONE = Bar("at most", 0)
_SLOWEST = 20


@dataclass
class Findings:
    """What callers met, by what was done meanwhile; None for what was not tried."""

    changed_lines: list[str] = field(default_factory=list)
    calls: dict[str, list[Call]] = field(default_factory=dict)
    late: list[Call] = field(default_factory=list)
    """That failed although the encoder had been back for BACK_S."""
    wrong_pictures: list[str] | None = None
    acknowledged: int = 0
    wrong_edges: list[str] | None = None
    missing_pictures: int | None = None
    """Of those that a Job indexed; None where there is no volume to index."""
    wrongly_told: list[str] | None = None
    """Of callers without a certificate, or the token for what they ask."""

    def figures(self, options: argparse.Namespace) -> list[Figure]:
        without = self._failed(ENCODER)
        other = [call for call in without or () if not call.error.startswith("Unavailable")]
        return [
            self._count(
                "failed_searches",
                f"searches failed over {options.roll_outs} roll-outs, {options.drains} drains and "
                f"{options.scale_downs} scale-downs of query, {options.indexer_roll_outs} "
                f"roll-outs and {options.kills} kills of the indexer",
                self._failed(PODS),
            ),
            self._count("wrong_pictures", "pictures lost or doubled", self.wrong_pictures),
            self._count(
                "encoder_other_errors",
                "searches that failed otherwise than by UNAVAILABLE over "
                f"{options.encoder_roll_outs} roll-outs of the encoder",
                None if without is None else other,
            ),
            self._count(
                "encoder_late_errors",
                f"failures later than {BACK_S:.0f} s after the encoder was back",
                None if without is None else self.late,
            ),
            Figure(
                "longest_call_s",
                "the longest search",
                self._longest_s(ROTATION, PODS, ENCODER),
                Bar("at most", 2),
            ),
            *self._speed("calm", "while nothing was replaced", CALM),
            *self._speed("disturbed", "while pods of query and indexer were", PODS),
            self._count(
                "rotation_failed_searches",
                "searches failed while all certificates were renewed",
                self._failed(ROTATION),
            ),
            self._count(
                "wrongly_told",
                "callers let in, or refused for another reason than what they lack",
                self.wrongly_told,
            ),
            self._count(
                "wrong_edges",
                "pairs of the matrix of reach that are not as drawn",
                self.wrong_edges,
                "nothing enforces policies",
            ),
            Figure(
                "missing_pictures",
                "pictures of a volume that a Job indexed and a search does not find",
                self.missing_pictures,
                _NONE,
                reason="no volume of ours" if self.missing_pictures is None else "",
            ),
            self._count(
                "changed_lines", "objects that a second `kubectl apply` changes", self.changed_lines
            ),
            self._control(options),
        ]

    def _count(
        self, key: str, meaning: str, found: Sequence[object] | None, reason: str = "not tried"
    ) -> Figure:
        """How many there are; there should be none."""
        value = None if found is None else len(found)
        return Figure(key, meaning, value, _NONE, reason=reason if found is None else "")

    def _control(self, options: argparse.Namespace) -> Figure:
        """What shows that these callers would see a service that stops too soon."""
        failed = self._failed(CONTROL)
        return Figure(
            "control.failed_searches",
            f"searches failed over {options.control_roll_outs} roll-outs with a drain of 5 s",
            None if failed is None else len(failed),
            Bar("at least", 1),
            reason="not tried" if failed is None else "",
        )

    def _speed(self, key: str, when: str, name: str) -> list[Figure]:
        took_ms = [1000 * call.took_s for call in self.calls.get(name, ())]
        shares = {"p50_ms": 0.5, "p99_ms": 0.99}
        found = [
            Figure(f"{key}.{unit}", f"a search {when}", percentile(took_ms, share))
            for unit, share in shares.items()
            if took_ms
        ]
        return [*found, Figure(f"{key}.longest_s", f"the longest {when}", self._longest_s(name))]

    def _failed(self, name: str) -> list[Call] | None:
        """None where that was not disturbed."""
        return [call for call in self.calls[name] if call.error] if name in self.calls else None

    def _longest_s(self, *names: str) -> float | None:
        return max(
            (call.took_s for name in names for call in self.calls.get(name, ())), default=None
        )

    def details(self) -> dict[str, object]:
        return {
            "searches": {name: len(calls) for name, calls in self.calls.items()},
            "failures": {
                name: [f"{call.took_s:.2f} s, {call.error}" for call in calls if call.error][:50]
                for name, calls in self.calls.items()
            },
            "slowest": {name: _slowest(calls) for name, calls in self.calls.items()},
            "machine_late_s": {
                name: max((call.machine_late_s for call in calls), default=0.0)
                for name, calls in self.calls.items()
            },
            "acknowledged_pictures": self.acknowledged,
            "wrong_pictures": (self.wrong_pictures or [])[:50],
            "wrong_edges": self.wrong_edges,
            "wrongly_told": self.wrongly_told,
            "changed_lines": self.changed_lines,
        }


def _slowest(calls: Sequence[Call]) -> list[dict[str, object]]:
    """Beginning with the longest; times from the first of all."""
    begun_s = min((call.begun_s for call in calls), default=0.0)
    return [
        {
            "after_s": round(call.begun_s - begun_s, 1),
            "took_s": round(call.took_s, 2),
            "service_s": round(call.service_s, 2),
            "machine_late_s": round(call.machine_late_s, 2),
            "caller": call.caller,
            "error": call.error[:200],
        }
        for call in sorted(calls, key=lambda call: -call.took_s)[:_SLOWEST]
    ]
