"""A server that a peer starts for itself, and how long it took to be ready."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_START_TIMEOUT_S = 600.0  # a first start makes int8, which on a busy machine takes minutes
_STOP_TIMEOUT_S = 20.0
_LOOK_S = 0.02
_PR_SET_PDEATHSIG = 1  # Linux' prctl.h


class ServerProcess:
    """`python` with these arguments, in this environment, until stop().

    Raises RuntimeError when it ends, or is not ready in time.
    """

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], is_ready: Callable[[], bool]
    ) -> None:
        started_s = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            preexec_fn=end_with_starter,
        )
        try:
            while not is_ready():
                if (
                    self._process.poll() is not None
                    or time.perf_counter() - started_s > _START_TIMEOUT_S
                ):
                    raise RuntimeError(f"{' '.join(arguments[:2])} did not start")
                time.sleep(_LOOK_S)
        except BaseException:  # an interrupt, too: nobody else would end it
            self.stop()
            raise
        self.start_s = time.perf_counter() - started_s
        self.pid = self._process.pid

    def stop(self) -> None:
        end(self._process)


def end_with_starter() -> None:
    """As preexec_fn of a process: it gets SIGTERM when its starter is gone, killed included."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def end(process: subprocess.Popen[Any]) -> None:
    """Ends the process, which gets a while for what it has started itself."""
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """A loopback port that nobody listened on a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
