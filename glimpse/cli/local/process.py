"""One child process in a group of its own, and its log; what it serves is stack's job."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glimpse.cli.local import guard
from glimpse.cli.local.log_file import LogFile
from glimpse.cli.local.process_group import OWN_GROUP


class Guard:
    """The process that stops all others if this one is killed; see glimpse.cli.local.guard.

    `keep_fd`, a descriptor such as a lock's, stays open in it and in all that it watches: until the
    last of them is gone, also where it is killed, too.
    Between a child's start and its first line to the guard lie some microseconds in which a
    SIGKILL of this process would leave that child alone.
    """

    def __init__(self, keep_fd: int) -> None:
        self.keep_fd = keep_fd
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[keep_fd],
            text=True,
            **OWN_GROUP,
        )

    @property
    def pid(self) -> int:
        """The guard's own process id."""
        return self._process.pid

    def watch(self, group: int, stop_signal: signal.Signals) -> None:
        """Has a group stopped when this process is gone."""
        self._tell(f"watch {group} {int(stop_signal)}")

    def forget(self, group: int) -> None:
        """The group has ended; its number may be another's soon."""
        self._tell(f"forget {group}")

    def close(self) -> None:
        """Ends the guard, which stops what it still watches."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()


def let_interrupts_through() -> None:
    """Makes SIGINT reach what this process starts, where a shell that put it into the background
    has it ignored: children inherit that, and Milvus Lite stops cleanly on nothing else."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        with contextlib.suppress(ValueError):  # only the main thread may
            signal.signal(signal.SIGINT, signal.default_int_handler)


class Process:
    """One named child; its output is appended to the file `log_path`."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log_path: Path,
        *,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._log = LogFile(log_path)
        self._command = list(command)
        self._environment = dict(environment)
        self._stop_signal = stop_signal
        self._child: subprocess.Popen[Any] | None = None
        self._guard: Guard | None = None

    def start(self, guard: Guard) -> None:
        """Starts the child in the log's folder. Raises OSError."""
        if self._stop_signal is signal.SIGINT:
            let_interrupts_through()
        with self._log.open() as log:
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[guard.keep_fd],
                cwd=self.log_path.parent,
                env=os.environ | self._environment,
                # Away from the terminal, so that Ctrl-C reaches only whoever stops them in order.
                **OWN_GROUP,
            )
        self._guard = guard
        guard.watch(self._child.pid, self._stop_signal)

    @property
    def pid(self) -> int:
        """The child's process id, also that of its group; 0 before the first start."""
        return self._child.pid if self._child else 0

    @property
    def is_running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The child's exit code, negative for a signal; None while it runs or before any start."""
        return self._child.poll() if self._child else None

    def how_it_ended(self) -> str:
        """How the child ended, for people: "ended with exit code 2", "was killed by SIGKILL"."""
        code = self.exit_code
        if code is None:
            return "is running"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    def last_lines(self, count: int = 10) -> list[str]:
        """The last lines that it wrote since its start."""
        return self._log.last_lines(count)

    def shorten_log(self) -> None:
        """Keeps the log from growing for ever; to be called now and then."""
        self._log.shorten()

    def stop(self, grace_s: float) -> None:
        """Asks the child to stop, waits, and kills what is left of its group."""
        if self._child is None:
            return
        if self.is_running:
            self._child.send_signal(self._stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(grace_s)
        self.kill()

    def kill(self) -> None:
        """Kills the child and its group at once."""
        if self._child is None:
            return
        self.send_kill()
        self._child.wait()
        if self._guard is not None:
            self._guard.forget(self._child.pid)
            self._guard = None

    def send_kill(self) -> None:
        """Sends SIGKILL to the child and its group without waiting: fit for signal handlers."""
        if self._child is not None and self._guard is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, signal.SIGKILL)
