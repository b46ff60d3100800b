"""How long it takes until the rows that wait for an index have one, by how fast they became fewer;
asking Milvus is the store's job."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_MAX_COLLECTIONS = 1_024  # remembered; the least recently looked at goes


@dataclass
class _Work:
    """Rows that wait for an index, since they last became more."""

    began_s: float
    began_rows: int
    last_rows: int


class IndexProgress:
    """Estimates from one look to the next; of a single one, nothing can be said."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._works: OrderedDict[str, _Work] = OrderedDict()

    def left_s(self, name: str, rows: int) -> float | None:
        """Seconds until the `rows` of the collection that wait now have an index.

        None where none wait, or none has got one since they were first looked at.
        """
        work = self._works.get(name)
        if not rows:
            self.forget(name)
            return None
        if work is None or rows > work.last_rows:
            self._works[name] = work = _Work(self._now_s(), rows, rows)
        work.last_rows = rows
        self._works.move_to_end(name)
        while len(self._works) > _MAX_COLLECTIONS:
            self._works.popitem(last=False)
        done = work.began_rows - rows
        return rows * (self._now_s() - work.began_s) / done if done else None

    def forget(self, name: str) -> None:
        """For a collection that was dropped."""
        self._works.pop(name, None)
