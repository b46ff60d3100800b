"""A stack's folder: whose it is, and where that one listens; what Milvus and the services keep in
it is theirs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from glimpse.cli.addresses import ADDRESSES_FILE, DRAFT_FILE
from glimpse.cli.console import CommandError


class DataFolder:
    """What one stack at a time may write to: it is locked before anything in it is touched, and
    until the last process that has the lock's descriptor has ended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._addresses = path / ADDRESSES_FILE
        self._draft = path / DRAFT_FILE
        self._lock_fd: int | None = None

    @property
    def logs(self) -> Path:
        """Where the processes' logs are."""
        return self.path / "logs"

    def lock(self, addresses: Mapping[str, str]) -> int:
        """Makes it ours; returns the lock's descriptor. Raises CommandError.

        The addresses are written now, so that a disk that is full says so before anything is
        started, and told to others by `publish`.
        """
        import fcntl  # not on Windows, where all but running the stack works

        with self._errors():
            self.logs.mkdir(parents=True, exist_ok=True)
            lock_fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock_fd)
            raise CommandError(
                f"glimpse is already running on {self.path}, or is just being stopped; use that "
                f"one, or choose another folder with --data (fuser {self.path / 'lock'} names its "
                "processes)"
            ) from None
        self._lock_fd = lock_fd
        with self._errors():
            known = {**addresses, "pid": os.getpid()}
            self._draft.write_text(json.dumps(known, indent=2) + "\n")
        return lock_fd

    def publish(self) -> None:
        """Tells other commands where the services are."""
        with self._errors():
            self._draft.replace(self._addresses)

    def withdraw(self) -> None:
        """No command finds the services any more; of no effect on another stack's folder."""
        if self._lock_fd is not None:
            for path in (self._addresses, self._draft):
                with contextlib.suppress(OSError):
                    path.unlink()

    def release(self) -> None:
        """Leaves it to others."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def free_bytes(self) -> int:
        """What is left of the disk; the folder need not be there yet."""
        there = next(each for each in (self.path, *self.path.parents) if each.exists())
        return shutil.disk_usage(there).free

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise CommandError(f"{self.path} cannot be used: {why}") from error
