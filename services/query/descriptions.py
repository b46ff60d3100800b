"""Collections' descriptions, trusted for a few seconds; what they say is the store's job."""

from __future__ import annotations

import time
from collections import OrderedDict

from services.common.deadline import Deadline
from services.vectors.store import CollectionSpec, VectorStore

_MAX_COLLECTIONS = 1_024


class Descriptions:
    """Saves each search a question to the store; owned by the event loop.

    A collection that was dropped and made anew is noticed after `trust_s`, or at once where a
    search fails: the searcher then calls forget().
    """

    def __init__(self, store: VectorStore, trust_s: float) -> None:
        self._store = store
        self._trust_s = trust_s
        self._known: OrderedDict[str, tuple[float, CollectionSpec]] = OrderedDict()

    async def get(self, name: str, deadline: Deadline) -> CollectionSpec:
        """The collection's description; raises NotFound and what else the store raises."""
        known = self._known.get(name)
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        self.forget(name)
        collection = await self._store.get_spec(name, deadline=deadline)
        self._known[name] = (time.monotonic() + self._trust_s, collection)
        while len(self._known) > _MAX_COLLECTIONS:
            self._known.popitem(last=False)
        return collection

    def forget(self, name: str) -> None:
        """Makes the next get() ask the store."""
        self._known.pop(name, None)
