"""The short form of `make first-day`: each of its parts once, against a service or two."""

from __future__ import annotations

import pytest

from tests import programs
from tests.first_day import logs, stops
from tests.load import ghz


def test_no_line_of_a_services_log_is_raw_whatever_callers_send(tmp_path):
    assert logs.measure(tmp_path, ["query"], seed=1) == []


@pytest.mark.skipif(programs.find(ghz.PROGRAM) is None, reason=programs.missing(ghz.PROGRAM))
def test_a_stop_under_load_ends_no_call_in_a_way_that_nobody_tries_again(tmp_path):
    found = stops.measure(tmp_path, stops=2, services=["query"])
    assert (found.unretriable, found.errors) == (0, []), found.record()
    assert {kind for _, kind, code in found.endings if code == "OK"} == {
        "ghz",
        "aio",
        "sync",
        "Client",
        "AsyncClient",
    }
