"""What one search takes of each part, in processor time, out of files of measurements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

_ROWS_MEASURED = 20_000  # of `make capacity`, unless it was told otherwise


@dataclass(frozen=True)
class ServiceTimes:
    """Milliseconds of one core.

    query_ms: of the query process, for one search. encode_call_ms and encode_text_ms: of the
    encoder's device, for a batch and for each text in it. milvus_ms: of one search whatever the
    collection; segment_ms: of each segment of it, of segment_rows rows. caller_ms: of the callers
    themselves, where they are on the same machine.

    The defaults: AMD EPYC, 2 cores, Milvus 2.3.5; ViT-B/32 in int8, docs/benchmarks.md.
    """

    query_ms: float = 1.4
    encode_call_ms: float = 8.8
    encode_text_ms: float = 3.7
    milvus_ms: float = 1.1
    segment_ms: float = 4.0
    segment_rows: int = 200_000
    caller_ms: float = 0.3

    def describe(self) -> dict[str, float]:
        return asdict(self)


def of_capacity(report: Mapping[str, Any], cores: int) -> ServiceTimes:
    """Of the stack that `make capacity` has run: what its steps say of each part.

    What the machine's processors did besides query and encoder is Milvus' and the callers'; half a
    millisecond of it is taken for the caller's.
    """
    steps = [step for step in report["details"]["steps"] if step["per_s"] > 0]
    first = min(steps, key=lambda step: step["per_s"])
    last = max(steps, key=lambda step: step["per_s"])

    def per_search_ms(step: Mapping[str, Any], name: str, scale: float = 1.0) -> float:
        return 1000 * scale * step["usage"][name] / step["per_s"]

    text_ms = min(per_search_ms(step, "encoder_device") for step in steps)
    query_ms = per_search_ms(last, "query_loop")
    caller_ms = 0.5
    rest_ms = per_search_ms(last, "processors", cores) - query_ms - caller_ms
    rest_ms -= per_search_ms(last, "encoder_device")
    return ServiceTimes(
        query_ms=query_ms,
        encode_call_ms=max(per_search_ms(first, "encoder_device") - text_ms, 0.0),
        encode_text_ms=text_ms,
        milvus_ms=max(rest_ms, 0.1),
        segment_ms=0.0,
        segment_rows=report["details"].get("rows", _ROWS_MEASURED),
        caller_ms=caller_ms,
    )


def with_scale(times: ServiceTimes, report: Mapping[str, Any]) -> ServiceTimes:
    """With Milvus' times of a large collection and of a small one, as `make bench-scale` found."""
    details = report["details"]
    turns = details["steps"]["searches"]["in turn"]
    rows = details["options"]["rows"]

    def milvus_ms(name: str) -> float:
        return min(turn[name]["processor_ms"]["milvus"] for turn in turns)

    small_ms = milvus_ms("bare_vectors scale_small")
    large_ms = milvus_ms("bare_vectors scale")
    segment_ms = max(large_ms - small_ms, 0.0) * times.segment_rows / rows
    return replace(times, milvus_ms=small_ms, segment_ms=segment_ms)
