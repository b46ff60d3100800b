"""The short form of `make fuzz`: two rounds of every attack on the real services."""

from __future__ import annotations

from collections import Counter

from glimpse.cli.local.stack import Stack, StackOptions
from glimpse.cli.ports import Ports
from tests.robustness.fuzz import fuzz, keep_logs
from tests.robustness.wire import tcp
from tests.waiting import wait_until


def test_services_bear_what_nobody_sane_sends_and_hold_nothing_of_it(tmp_path):
    with Stack(StackOptions(tmp_path, ports=Ports.free())) as stack:
        assert fuzz(stack, seconds=0, stream_messages=2_000, seed=1) == []
    assert [process.exit_code for process in stack.processes.values()] == [0, 0, 0, 0]


def test_a_refused_connection_tells_whether_the_service_died_and_its_log_is_kept(tmp_path):
    def refused(address, methods, rng):
        raise ConnectionRefusedError

    def deadly(address, methods, rng):
        if address == stack.addresses["encoder"]:
            stack.processes["encoder"].send_kill()
            wait_until(lambda: not stack.processes["encoder"].is_running, "killed")
        tcp(address).close()
        return Counter(closed=1)

    with Stack(StackOptions(tmp_path, ports=Ports.free())) as stack:
        faults = fuzz(stack, seconds=0, stream_messages=1, seed=1, attacks=[refused])
        assert len(faults) == 3
        assert all("met ConnectionRefusedError()" in fault for fault in faults)
        assert all("is the one that was attacked, and is SERVING" in fault for fault in faults)
        died, *log = fuzz(stack, seconds=0, stream_messages=1, seed=1, attacks=[deadly])
        assert died.startswith("deadly on encoder met ConnectionRefusedError")
        assert died.endswith(": encoder was killed by SIGKILL")
        assert log
        again = fuzz(stack, seconds=0, stream_messages=1, seed=1, attacks=[])
        assert again == ["encoder was not there yet"]
        kept = keep_logs(stack, tmp_path / "kept")
    assert (kept / "encoder.log").read_text()
