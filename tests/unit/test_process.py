"""A child process of the command line, stopped as it asks for."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from glimpse.cli.process import Guard, Process
from tests.waiting import wait_until

ENDS_ON_INTERRUPT = """
import signal, sys
try:
    print("up", flush=True)
    signal.pause()
except KeyboardInterrupt:
    sys.exit(7)
"""


@pytest.fixture
def guard():
    descriptor = os.open(os.devnull, os.O_RDONLY)
    guard = Guard(descriptor)
    yield guard
    guard.close()
    os.close(descriptor)


@pytest.fixture
def interrupts_ignored():
    """As a shell has it for its background jobs."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts_ignored")
def test_a_child_that_stops_on_interrupts_does_so_below_a_background_job(tmp_path, guard):
    command = [sys.executable, "-c", ENDS_ON_INTERRUPT]
    child = Process("child", command, {}, tmp_path / "log", stop_signal=signal.SIGINT)
    child.start(guard)
    wait_until(lambda: child.last_lines() == ["up"], "the child does not start", 30)
    child.stop(grace_s=30)
    assert child.exit_code == 7
