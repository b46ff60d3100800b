"""What `make cluster-pods` makes of what its callers wrote."""

from __future__ import annotations

import argparse

from tests.cluster.callers import Call
from tests.cluster.figures import CALM, CONTROL, ENCODER, PODS, ROTATION, Findings

HITS = Call(begun_s=0.0, took_s=0.1)
AWAY = Call(begun_s=1.0, took_s=0.5, error="Unavailable: the encoder is away")
CUT = Call(begun_s=2.0, took_s=3.0, error="Cancelled: somebody hung up")


OPTIONS = argparse.Namespace(
    roll_outs=1,
    drains=1,
    scale_downs=1,
    indexer_roll_outs=1,
    kills=1,
    encoder_roll_outs=1,
    control_roll_outs=1,
)


def figures(findings: Findings) -> dict[str, float | None]:
    return {figure.key: figure.value for figure in findings.figures(OPTIONS)}


def test_searches_may_fail_only_while_there_is_no_encoder():
    calls = {CALM: [HITS], ROTATION: [AWAY], PODS: [HITS, CUT, AWAY], ENCODER: [AWAY, CUT]}
    found = figures(Findings(calls=calls, late=[AWAY]))
    assert found["failed_searches"] == 2
    assert found["rotation_failed_searches"] == 1
    assert found["encoder_other_errors"] == 1
    assert found["encoder_late_errors"] == 1
    assert (found["longest_call_s"], found["calm.longest_s"]) == (3.0, 0.1)
    assert (found["calm.p50_ms"], found["disturbed.p99_ms"]) == (100.0, 3000.0)


def test_control_that_loses_nothing_shows_that_the_callers_see_nothing():
    met = [
        figure.is_met
        for calls in ([HITS], [HITS, CUT])
        for figure in Findings(calls={CONTROL: calls}).figures(OPTIONS)
        if figure.key == "control.failed_searches"
    ]
    assert met == [False, True]


def test_what_was_not_tried_is_no_figure():
    found = figures(Findings())
    tried = {key for key, value in found.items() if value is not None}
    assert tried == {"changed_lines"}
    assert figures(Findings(wrong_edges=[], calls={PODS: [HITS]}))["wrong_edges"] == 0
