"""How many bytes of pictures a process decodes at once; decoding them is preprocess' job."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class DecodeMemory:
    """A bound on bytes that decoding threads share. Pictures wait for it in turn, so that a large
    one is not overtaken for ever. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held_bytes = 0
        self._turn = threading.Lock()  # held by the one picture that may wait for bytes
        self._released = threading.Condition()

    @contextlib.contextmanager
    def reserved(self, size_bytes: int) -> Iterator[None]:
        """Waits until `size_bytes` fit. What is larger than the whole bound passes alone."""
        with self._turn, self._released:
            self._released.wait_for(lambda: self._fits(size_bytes))
            self._held_bytes += size_bytes
        try:
            yield
        finally:
            with self._released:
                self._held_bytes -= size_bytes
                self._released.notify()

    def _fits(self, size_bytes: int) -> bool:
        return not self._held_bytes or self._held_bytes + size_bytes <= self._max_bytes
