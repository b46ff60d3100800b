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

    def __bool__(self) -> bool:
        return bool(self._callers)

    def add(self, caller: Hashable, item: Item) -> None:
        """Let an item wait behind the caller's others; a new caller waits behind all."""
        self._callers.setdefault(caller, OrderedDict())[item] = None

    def first(self) -> Item:
        """The item whose turn it is."""
        return next(iter(next(iter(self._callers.values()))))

    def take(self) -> Item:
        """Take that item out; its caller waits behind all others again."""
        caller, items = self._callers.popitem(last=False)
        item, _ = items.popitem(last=False)
        if items:
            self._callers[caller] = items
        return item

    def discard(self, caller: Hashable, item: Item) -> None:
        """Forget an item; nothing, where it does not wait any more."""
        items = self._callers.get(caller)
        if items is not None and items.pop(item, self) is None and not items:
            del self._callers[caller]
