"""What libraries write past the log, to file descriptor 2, as lines of the log: gRPC about broken
frames and failed handshakes, drivers about their device. A log for machines holds nothing else."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator

_DRAIN_S = 1.0  # at the end: a child process may still hold the pipe open

log = logging.getLogger("stderr")


@contextlib.contextmanager
def logged_raw_output() -> Iterator[None]:
    """Meanwhile each line that is written to the descriptor is a WARNING of the logger "stderr".

    sys.stderr, and so the log itself, goes where the descriptor went before. Lines that nobody
    takes in time are dropped: a library that writes holds up nobody. What it writes in the moment
    in which it ends the process is lost with the process.
    """
    sys.stderr.flush()
    before, real_fd = sys.stderr, os.dup(2)
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    os.dup2(write_fd, 2)
    os.close(write_fd)
    sys.stderr = os.fdopen(real_fd, "w", buffering=1, errors="backslashreplace", closefd=False)
    reader = threading.Thread(target=_log_lines, args=(read_fd,), name="raw-output", daemon=True)
    reader.start()
    try:
        yield
    finally:
        os.dup2(real_fd, 2)  # the pipe's end, unless a child has it, too
        reader.join(_DRAIN_S)
        sys.stderr = before


def _log_lines(read_fd: int) -> None:
    with os.fdopen(read_fd, errors="replace") as lines:
        for line in lines:
            if line.strip():
                log.warning("%s", line.rstrip())
