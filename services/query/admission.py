"""How many calls are worked on at once; what they do is not its job."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from services.common.errors import Overloaded


class Admission:
    """A bounded number of places, owned by the event loop; without one, a call is refused."""

    def __init__(self, max_in_flight: int) -> None:
        self._max_in_flight = max_in_flight
        self._in_flight = 0

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Holds one place; raises Overloaded at once when there is none."""
        if self._in_flight >= self._max_in_flight:
            raise Overloaded(f"{self._max_in_flight} calls are under way; try again shortly")
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1
