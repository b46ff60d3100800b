"""What `make cluster-pods` makes of what its callers wrote."""

from __future__ import annotations

import argparse

from tests.cluster.callers import Call
from tests.cluster.figures import Findings

HITS = Call(begun_s=0.0, took_s=0.1)
AWAY = Call(begun_s=1.0, took_s=0.5, error="Unavailable: the encoder is away")
CUT = Call(begun_s=2.0, took_s=3.0, error="Cancelled: somebody hung up")


OPTIONS = argparse.Namespace(
    roll_outs=1, evictions=1, scale_downs=1, indexer_roll_outs=1, kills=1, encoder_roll_outs=1
)


def figures(findings: Findings) -> dict[str, float | None]:
    return {figure.key: figure.value for figure in findings.figures(OPTIONS)}


def test_searches_may_fail_only_while_there_is_no_encoder():
    calls = {"nothing": [HITS], "query and indexer": [HITS, CUT, AWAY], "encoder": [AWAY, CUT]}
    found = figures(Findings(calls=calls, late=[AWAY]))
    assert found["failed_searches"] == 2
    assert found["encoder_other_errors"] == 1
    assert found["encoder_late_errors"] == 1
    assert (found["longest_call_s"], found["calm.longest_call_s"]) == (3.0, 0.1)


def test_reach_is_no_figure_where_nothing_enforces_policies():
    calls = {"nothing": [], "query and indexer": [HITS], "encoder": []}
    assert figures(Findings(calls=calls))["wrong_edges"] is None
    assert figures(Findings(calls=calls, wrong_edges=[]))["wrong_edges"] == 0
