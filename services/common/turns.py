"""A line in which callers take turns, one item each, however many items one of them brings."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)


class Turns(Generic[Item]):
    """What waits, by caller; a caller's own items keep their order. Not thread-safe."""

    def __init__(self) -> None:
        self._callers: OrderedDict[Hashable, OrderedDict[Item, None]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        """Items that wait."""
        return self._count

    def count_before(self, items: int) -> int:
        """Items that have their turn before a new caller's last one, of so many."""
        return sum(min(len(each), items) for each in self._callers.values())

    def add(self, caller: Hashable, item: Item) -> None:
        """Let an item wait behind the caller's others; a new caller waits behind all."""
        self._callers.setdefault(caller, OrderedDict())[item] = None
        self._count += 1

    def first(self) -> Item:
        """The item whose turn it is."""
        return next(iter(next(iter(self._callers.values()))))

    def take(self) -> Item:
        """Take that item out; its caller waits behind all others again."""
        caller, items = self._callers.popitem(last=False)
        item, _ = items.popitem(last=False)
        if items:
            self._callers[caller] = items
        self._count -= 1
        return item

    def discard(self, caller: Hashable, item: Item) -> bool:
        """Forget an item; False, where it does not wait any more."""
        items = self._callers.get(caller)
        if items is None or items.pop(item, self) is self:
            return False
        if not items:
            del self._callers[caller]
        self._count -= 1
        return True
