"""A time that the test moves on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Clock:
    """Stands for time.monotonic."""

    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s
