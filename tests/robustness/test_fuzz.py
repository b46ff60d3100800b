"""The short form of `make fuzz`: two rounds of every attack on the real services."""

from __future__ import annotations

from collections import Counter

import pytest

from glimpse.cli.local.stack import Stack, StackOptions
from glimpse.cli.ports import Ports
from tests.robustness.fuzz import fuzz, keep_logs
from tests.robustness.wire import tcp
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with Stack(StackOptions(tmp_path_factory.mktemp("fuzz"), ports=Ports.free())) as stack:
        yield stack


def test_a_refused_connection_tells_whether_the_service_died_and_its_log_is_kept(stack, tmp_path):
    def refused(address, methods, rng):
        raise ConnectionRefusedError

    def deadly(address, methods, rng):
        if address == stack.addresses["query"]:
            stack.processes["query"].send_kill()
            wait_until(lambda: not stack.processes["query"].is_running, "killed")
        tcp(address).close()
        return Counter(closed=1)

    faults = fuzz(stack, seconds=0, stream_messages=1, seed=1, attacks=[refused])
    assert len(faults) == 3
    assert all("met ConnectionRefusedError()" in fault for fault in faults)
    assert all("is the one that was attacked, and is SERVING" in fault for fault in faults)
    died, *log = fuzz(stack, seconds=0, stream_messages=1, seed=1, attacks=[deadly])
    assert died.startswith("deadly on query met ConnectionRefusedError")
    assert died.endswith(": query was killed by SIGKILL")
    assert log
    again = fuzz(stack, seconds=0, stream_messages=1, seed=1, attacks=[])
    assert again == ["query was not there yet"]
    kept = keep_logs(stack, tmp_path / "kept")
    assert (kept / "query.log").read_text()
    stack.restart("query")


def test_services_bear_what_nobody_sane_sends_and_hold_nothing_of_it(stack):
    assert fuzz(stack, seconds=0, stream_messages=2_000, seed=1) == []
    stack.stop()
    assert [process.exit_code for process in stack.processes.values()] == [0, 0, 0, 0]
