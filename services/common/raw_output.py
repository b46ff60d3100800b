"""What libraries write past the log, to file descriptors 1 and 2, as lines of the log: gRPC about
broken frames and failed handshakes, drivers about their device. A log for machines holds nothing
else."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator

from services.common.repeats import Repeats

_DRAIN_S = 1.0  # at the end: a child process may still hold the pipe open

_EVERY_S = 10.0  # of lines that differ in numbers only, such as those of one caller that tries on
_NUMBERS = re.compile(r"\d+")

log = logging.getLogger("stderr")


@contextlib.contextmanager
def logged_raw_output() -> Iterator[None]:
    """Meanwhile a line that is written to the descriptors is a WARNING of the logger "stderr"; of
    those that repeat, one in ten seconds.

    sys.stderr, and so the log itself, goes where descriptor 2 went before. Lines that nobody takes
    in time are dropped: a library that writes holds up nobody. What it writes in the moment in
    which it ends the process is lost with the process.
    """
    sys.stderr.flush()
    before, real_fds = sys.stderr, {fd: os.dup(fd) for fd in (1, 2)}
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    for fd in real_fds:
        os.dup2(write_fd, fd)
    os.close(write_fd)
    sys.stderr = os.fdopen(real_fds[2], "w", buffering=1, errors="backslashreplace", closefd=False)
    reader = threading.Thread(target=_log_lines, args=(read_fd,), name="raw-output", daemon=True)
    reader.start()
    try:
        yield
    finally:
        for fd, real_fd in real_fds.items():
            os.dup2(real_fd, fd)  # with both, the pipe ends, unless a child has it, too
        reader.join(_DRAIN_S)
        sys.stderr = before


def _log_lines(read_fd: int) -> None:
    repeats = Repeats(_EVERY_S)
    with os.fdopen(read_fd, errors="replace") as lines:
        for line in map(str.rstrip, lines):
            behind = repeats.pass_on(_NUMBERS.sub("", line)) if line else None
            if behind is not None:
                log.warning("%s%s", line, behind)
