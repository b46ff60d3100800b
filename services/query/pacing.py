"""Long work on the event loop in short turns, between which other calls go on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

Item = TypeVar("Item")

_MAX_TURN_S = 0.003


async def paced(items: Iterable[Item]) -> AsyncIterator[Item]:
    """The items; before one of them, other calls get their turn when the last was a while ago.

    It bounds the time that a call holds the loop where each item alone takes little.
    """
    began_s = time.perf_counter()
    for item in items:
        yield item
        if time.perf_counter() - began_s > _MAX_TURN_S:
            await asyncio.sleep(0)
            began_s = time.perf_counter()
