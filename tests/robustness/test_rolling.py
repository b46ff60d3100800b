"""The short form of `make rolling`: the only replica of each service is replaced once."""

from __future__ import annotations

from tests.robustness.rolling import roll


def test_rolling_restart_of_query_and_indexer_fails_no_call_of_the_client(tmp_path):
    load = roll(tmp_path, restarts=1, replicas=1)
    assert load.failures == []
    assert load.interruptions
    assert all(load.calls[name] for name in ("searches", "look-ups", "pictures"))
