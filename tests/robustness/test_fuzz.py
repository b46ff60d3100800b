"""The short form of `make fuzz`: two rounds of every attack on the real services."""

from __future__ import annotations

import pytest

from glimpse.cli.ports import Ports
from glimpse.cli.stack import Stack, StackOptions
from tests.robustness.fuzz import fuzz

pytestmark = pytest.mark.timeout(300)


def test_services_bear_what_nobody_sane_sends_and_hold_nothing_of_it(tmp_path):
    with Stack(StackOptions(tmp_path, ports=Ports.free())) as stack:
        assert fuzz(stack, seconds=0, stream_messages=2_000, seed=1) == []
    assert [process.exit_code for process in stack.processes.values()] == [0, 0, 0, 0]
