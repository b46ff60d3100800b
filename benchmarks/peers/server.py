"""A server that a peer starts for itself, and how long it took to be ready."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

_START_TIMEOUT_S = 120.0
_LOOK_S = 0.02


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
        self._process.terminate()
        self._process.wait()


def free_port() -> int:
    """A loopback port that nobody listened on a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
