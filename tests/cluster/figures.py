"""What callers met while pods were replaced, as figures with their bars."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field

from benchmarks.report import Bar, Figure
from tests.cluster.callers import Call

BACK_S = 30.0
"""How long after the encoder's return a search may still fail."""


@dataclass
class Findings:
    """What callers met, by what was done meanwhile."""

    changed_lines: list[str] = field(default_factory=list)
    calls: dict[str, list[Call]] = field(default_factory=dict)
    """While nothing, pods of query and indexer, or the encoder's were replaced."""
    late: list[Call] = field(default_factory=list)
    """That failed although the encoder had been back for BACK_S."""
    wrong_pictures: list[str] = field(default_factory=list)
    acknowledged: int = 0
    wrong_edges: list[str] | None = None
    missing_pictures: int | None = None
    """Of those that a Job indexed; None where there is no volume to index."""

    def figures(self, options: argparse.Namespace) -> list[Figure]:
        none = Bar("at most", 0)
        failed = [call for call in self.calls["query and indexer"] if call.error]
        without = [call for call in self.calls["encoder"] if call.error]
        other = [call for call in without if not call.error.startswith("Unavailable")]
        longest_s = self._longest_s("query and indexer", "encoder")
        return [
            Figure(
                "failed_searches",
                f"searches failed over {options.roll_outs} roll-outs, {options.evictions} "
                f"evictions and {options.scale_downs} scale-downs of query, "
                f"{options.indexer_roll_outs} roll-outs and {options.kills} kills of the indexer",
                len(failed),
                none,
            ),
            Figure("wrong_pictures", "pictures lost or doubled", len(self.wrong_pictures), none),
            Figure(
                "encoder_other_errors",
                "searches that failed otherwise than by UNAVAILABLE over "
                f"{options.encoder_roll_outs} roll-outs of the encoder",
                len(other),
                none,
            ),
            Figure(
                "encoder_late_errors",
                f"failures later than {BACK_S:.0f} s after the encoder was back",
                len(self.late),
                none,
            ),
            Figure("longest_call_s", "the longest search", longest_s, Bar("at most", 2)),
            Figure("calm.longest_call_s", "before any of that", self._longest_s("nothing")),
            Figure(
                "wrong_edges",
                "pairs of the matrix of reach that are not as drawn",
                None if self.wrong_edges is None else len(self.wrong_edges),
                none,
                reason="nothing enforces policies" if self.wrong_edges is None else "",
            ),
            Figure(
                "missing_pictures",
                "pictures of a volume that a Job indexed and a search does not find",
                self.missing_pictures,
                none,
                reason="no volume of ours" if self.missing_pictures is None else "",
            ),
            Figure(
                "changed_lines",
                "objects that a second `kubectl apply` changes",
                len(self.changed_lines),
                none,
            ),
        ]

    def _longest_s(self, *names: str) -> float:
        return max((call.took_s for name in names for call in self.calls[name]), default=0.0)

    def details(self) -> dict[str, object]:
        return {
            "searches": {name: len(calls) for name, calls in self.calls.items()},
            "failures": {
                name: [f"{call.took_s:.2f} s, {call.error}" for call in calls if call.error][:50]
                for name, calls in self.calls.items()
            },
            "longest_s": {name: self._longest_s(name) for name in self.calls},
            "acknowledged_pictures": self.acknowledged,
            "wrong_pictures": self.wrong_pictures[:50],
            "wrong_edges": self.wrong_edges,
            "changed_lines": self.changed_lines,
        }
