"""The time that a call has left, handed from step to step: its one form."""

from __future__ import annotations

import time

from glimpse.errors import DeadlineExceeded


class Deadline:
    """A point in time, `left_s` seconds from now."""

    def __init__(self, left_s: float) -> None:
        self.at_s = time.monotonic() + left_s
        """On the clock of time.monotonic."""

    def left_s(self) -> float:
        """Seconds that are left, more than 0; raises DeadlineExceeded when there are none."""
        left_s = self.at_s - time.monotonic()
        if not left_s > 0:
            raise DeadlineExceeded("the call's deadline has passed")
        return left_s

    def within(self, most_s: float) -> Deadline:
        """This deadline, or one `most_s` seconds from now where that comes first."""
        sooner = Deadline(most_s)
        return sooner if sooner.at_s < self.at_s else self
