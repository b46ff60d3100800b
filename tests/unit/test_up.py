"""What `glimpse up` does at signals; what it leaves behind then, tests/e2e/test_up.py says."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from glimpse.cli.local import up

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StoppableStack:
    """What a handler of signals may touch of a stack."""

    def __init__(self) -> None:
        self.stop_requested = threading.Event()
        self.kills = 0

    def send_kill(self) -> None:
        self.kills += 1


@pytest.fixture
def stack():
    before = {number: signal.getsignal(number) for number in STOPPING}
    stack = StoppableStack()
    up.stop_on_signals(stack)  # type: ignore[arg-type]
    yield stack
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOPPING)
def test_the_first_signal_asks_for_a_stop_in_order_and_the_next_kills(stack, number):
    os.kill(os.getpid(), number)
    assert stack.stop_requested.is_set()
    assert stack.kills == 0
    os.kill(os.getpid(), number)
    assert stack.kills == 1
