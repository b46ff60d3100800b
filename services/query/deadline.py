"""The time that a call has left, handed from step to step; setting it is the servicer's job."""

from __future__ import annotations

import time

from glimpse.errors import DeadlineExceeded


class Deadline:
    """A point in time on the monotonic clock, `left_s` seconds from now."""

    def __init__(self, left_s: float) -> None:
        self.at_s = time.monotonic() + left_s

    def left_s(self) -> float:
        """Seconds that are left, more than 0; raises DeadlineExceeded when there are none."""
        left_s = self.at_s - time.monotonic()
        if left_s <= 0:
            raise DeadlineExceeded("the call's deadline has passed")
        return left_s
