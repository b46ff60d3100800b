"""The capacity finder: where the knee is, and what was full, from readings that are given."""

from __future__ import annotations

import math

import pytest

from tests.load.capacity import Finder, Usage, figures, usage_between
from tests.load.ghz import GhzReport

IDLE = Usage(encoder_device=0.1, query_loop=0.1, milvus_ms=4.0, processors=0.2)


class FullFrom:
    """Services that answer in 10 ms up to a rate, and in 500 ms above it, the encoder full."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._is_full = False

    def run_one(self, configuration, *, rps: int, **_) -> GhzReport:
        self._is_full = rps > self._rate
        latency_ns = (500 if self._is_full else 10) * 1e6
        detail = {"timestamp": "2026-01-01T00:00:00Z", "latency": latency_ns, "status": "OK"}
        return GhzReport({"total": 1e9, "details": [detail] * rps})

    def start(self) -> None:
        pass

    def usage(self) -> Usage:
        return Usage(0.95, 0.4, 5.0, 0.6) if self._is_full else IDLE


def found(rate: int, start: int = 20) -> Finder:
    services = FullFrom(rate)
    finder = Finder(services, services, objective_ms=100, seconds=1)
    finder.find(start)
    return finder


@pytest.mark.parametrize("rate", [25, 100, 333])
def test_the_knee_is_the_highest_rate_that_kept_the_objective(rate):
    knee = found(rate).knee
    assert knee is not None
    assert 0.85 * rate <= knee.asked_per_s <= rate


def test_a_knee_below_the_first_rate_is_found_too():
    knee = found(rate=10, start=40).knee
    assert knee is not None
    assert 5 <= knee.asked_per_s <= 10


def test_what_was_full_just_beyond_the_knee_is_named():
    by_key = {figure.key: figure for figure in figures(found(100), 100)}
    assert "bottleneck: encoder device time (95% busy)" in by_key["knee_per_s"].meaning


def test_calls_that_fail_break_the_objective():
    finder = found(100)
    assert all(step.keeps(100) == (step.asked_per_s <= 100) for step in finder.steps)
    failed = GhzReport({"total": 1e9, "details": None})
    assert math.isnan(failed.ms(0.99))


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (IDLE, []),
        (Usage(0.9, 0.1, 4.0, 0.2), ["encoder device time (90% busy)"]),
        (Usage(0.1, 0.9, 4.0, 0.2), ["query loop (90% of a core)"]),
        (Usage(0.1, 0.1, 9.0, 0.2), ["Milvus (9.0 ms, 4.0 ms at first)"]),
        (Usage(0.1, 0.1, 4.0, 0.9), ["this machine's processors (90% busy)"]),
    ],
)
def test_what_is_full_follows_from_shares_of_time(usage, expected):
    assert usage.saturated(milvus_ms_at_first=4.0) == expected


def test_usage_is_what_has_grown_between_two_readings():
    before = dict.fromkeys(
        ("at_s", "device_s", "loop_s", "search_s", "searches", "processors_busy_s", "processors_s"),
        100.0,
    )
    grown = {"at_s": 10, "device_s": 5, "loop_s": 8, "search_s": 2, "searches": 500}
    grown |= {"processors_busy_s": 15, "processors_s": 20}
    after = {name: value + grown[name] for name, value in before.items()}
    usage = usage_between(before, after)
    assert usage == Usage(encoder_device=0.5, query_loop=0.8, milvus_ms=4.0, processors=0.75)
