"""What happened to each picture and process of a run, by the second, for where a row is wrong."""

from __future__ import annotations

import threading
import time

_AROUND_S = 5.0  # in which what was killed may have to do with a picture


class History:
    """Lines by the picture that they are of; those of no picture are of processes. Any thread may
    add to it."""

    def __init__(self) -> None:
        self._begun_s = time.monotonic()
        self._lines: list[tuple[float, int | None, str]] = []
        self._adding = threading.Lock()

    def note(self, line: str, *pictures: int) -> None:
        at_s = time.monotonic() - self._begun_s
        with self._adding:
            self._lines += [(at_s, number, line) for number in pictures or (None,)]

    def processes(self, first_s: float, last_s: float) -> list[str]:
        """What happened to processes between two times of the monotonic clock."""
        lines = [(at_s + self._begun_s, line) for at_s, of, line in self._lines if of is None]
        return [f"{at_s:.2f} s: {line}" for at_s, line in lines if first_s <= at_s <= last_s]

    def of(self, picture: int) -> list[str]:
        """Its lines, and those of processes from a while before the first to behind the last."""
        times = [at_s for at_s, number, _ in self._lines if number == picture]
        if not times:
            return []
        first_s, last_s = times[0] - _AROUND_S, times[-1] + _AROUND_S
        return [
            f"  {at_s:8.2f} s  {line}"
            for at_s, number, line in self._lines
            if number == picture or (number is None and first_s <= at_s <= last_s)
        ]
