"""Items made ahead of whoever takes them, by a thread; what they are is the caller's job."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


class _End:
    """What comes behind the last item."""


def made_ahead(items: Iterable[Item], count: int) -> Generator[Item, None, None]:
    """The same items, in their order, of which up to `count` wait to be taken; an error in making
    one is raised where it would have come."""
    source = iter(items)
    maker = ThreadPoolExecutor(1)
    try:
        waiting = deque(maker.submit(next, source, _End()) for _ in range(count))
        while not isinstance(item := waiting.popleft().result(), _End):
            waiting.append(maker.submit(next, source, _End()))
            yield item
    finally:
        maker.shutdown(wait=False, cancel_futures=True)
