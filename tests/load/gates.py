"""How good a configuration's run has to be, from the file beside it; and the figures of a run."""

from __future__ import annotations

import json
from dataclasses import dataclass

from benchmarks.report import Bar, Figure
from tests.load.ghz import Configuration, GhzReport


@dataclass(frozen=True)
class Gate:
    """One store's part of NAME.gate.json.

    min_share_of_reference: items (a text, an image, a query) of calls that went well per second, as
    a share of the calls per second that the calibration run gave on this machine just before.
    max_p99_ms: of calls that went well. max_error_share: of all calls, those that ended otherwise
    than OK or tolerated (statuses as ghz spells them).
    """

    min_share_of_reference: float
    max_p99_ms: float
    max_error_share: float
    tolerated: frozenset[str] = frozenset()

    @classmethod
    def beside(cls, configuration: Configuration, store: str) -> Gate:
        """For "lite" or "milvus". Raises FileNotFoundError: each configuration needs its gate."""
        path = configuration.path.with_name(f"{configuration.name}.gate.json")
        content = json.loads(path.read_text(encoding="utf-8"))[store]
        return cls(**{**content, "tolerated": frozenset(content.get("tolerated", ()))})


def figures(
    configuration: Configuration,
    gate: Gate,
    report: GhzReport,
    reference_per_s: float,
    items: int = 1,
) -> list[Figure]:
    """Rate, latency and errors of a run with so many items in a call, each with its bar."""
    name = configuration.name
    call = str(configuration.settings["call"]).partition(".v1.")[2]
    items_per_s = report.per_s * items
    others = {s: n for s, n in sorted(report.statuses.items()) if s != "OK"}
    return [
        Figure(
            f"{name}.per_s",
            (
                f"items of {call} per second, {items} in a call"
                if items > 1
                else f"{call} per second"
            )
            + f", {items_per_s / reference_per_s:.1%} of the calibration's "
            f"(bar: {gate.min_share_of_reference:.1%})",
            items_per_s,
            Bar("at least", gate.min_share_of_reference * reference_per_s),
        ),
        Figure(f"{name}.p50_ms", "half of the calls that went well took no longer", report.ms(0.5)),
        Figure(
            f"{name}.p99_ms",
            "99 of 100 calls that went well took no longer",
            report.ms(0.99),
            Bar("at most", gate.max_p99_ms),
        ),
        Figure(
            f"{name}.error_share",
            f"of {report.count:,} calls, those that failed"
            + "".join(f"; {status}: {count:,}" for status, count in others.items())
            + "".join(f"; {status} is no failure here" for status in sorted(gate.tolerated)),
            report.error_share(gate.tolerated),
            Bar("at most", gate.max_error_share),
        ),
    ]
