"""Files that are read again when they change; what they mean is told by whoever watches them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from glimpse.errors import UnusableCredentials

LOOK_EVERY_S = 1.0
"""How long a change of a watched file may go unnoticed, in seconds."""

Value = TypeVar("Value")

log = logging.getLogger(__name__)


class FileWatcher(Generic[Value]):
    """What `parse` makes of the contents of some files, each by a name that errors speak of.

    Raises UnusableCredentials when that fails at the start. When it fails later, as while files are
    being replaced one by one, the last good value stands, a line in the log says so, and the files
    are looked at again. Thread-safe; `parse` runs in the thread that asks.
    """

    def __init__(
        self, paths: Mapping[str, Path], parse: Callable[[dict[str, bytes]], Value]
    ) -> None:
        self._paths = dict(paths)
        self._parse = parse
        self._lock = threading.Lock()
        self._problem = ""
        self._next_look_s = time.monotonic() + LOOK_EVERY_S
        self._contents = self._read()
        self._value = self._parsed(self._contents)

    def current(self) -> Value:
        """The newest good value: the same object until a file changes."""
        with self._lock:
            if time.monotonic() >= self._next_look_s:
                self._look()
                self._next_look_s = time.monotonic() + LOOK_EVERY_S
            return self._value

    def _look(self) -> None:
        try:
            contents = self._read()
            if contents != self._contents:
                self._value, self._contents = self._parsed(contents), contents
                log.info("reloaded: %s", ", ".join(self._paths))
            self._problem = ""
        except UnusableCredentials as error:
            if str(error) != self._problem:
                log.warning("%s; the previous version remains in use", error)
            self._problem = str(error)

    def _read(self) -> dict[str, bytes]:
        contents = {}
        for name, path in self._paths.items():
            try:
                contents[name] = path.read_bytes()
            except OSError as error:
                why = (error.strerror or str(error)).lower()
                raise UnusableCredentials(f"{name}: {path} cannot be read: {why}") from error
        return contents

    def _parsed(self, contents: dict[str, bytes]) -> Value:
        value = self._parse(contents)
        # `parse` may have had a library read a file once more: both have to have seen the same.
        if self._read() != contents:
            raise UnusableCredentials(f"{', '.join(self._paths)}: changed while being read")
        return value
