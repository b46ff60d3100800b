"""The log of one process of the stack: what earlier runs wrote stays, and it does not grow for
ever; what stands in it is the process's own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import BinaryIO

_MAX_BYTES = 10 * 2**20
_TAIL_BYTES = 16_384


class LogFile:
    """A file that is appended to; what is older than its latest 10 MB or so is in FILE.1, once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begin = 0
        self._max_bytes = _MAX_BYTES

    def open(self) -> BinaryIO:
        """For the output of a process that starts now. Raises OSError."""
        self.shorten()
        log = self.path.open("ab")
        self._begin = log.tell()
        return log

    def shorten(self) -> None:
        """Moves what is there to FILE.1 when it is long, also under a process that writes: of what
        that writes in just this moment, a line may get lost."""
        try:
            if self.path.stat().st_size <= self._max_bytes:
                return
            draft, older = Path(f"{self.path}.new"), Path(f"{self.path}.1")
            shutil.copyfile(self.path, draft)
            draft.replace(older)
            os.truncate(self.path, 0)
            self._begin = 0
        except FileNotFoundError:
            pass
        except OSError:  # such as a full disk: it has to wait
            self._max_bytes *= 2

    def last_lines(self, count: int) -> list[str]:
        """The last lines since it was opened."""
        try:
            with self.path.open("rb") as log:
                log.seek(max(self._begin, os.path.getsize(self.path) - _TAIL_BYTES))
                return log.read().decode(errors="replace").splitlines()[-count:]
        except OSError:
            return []
