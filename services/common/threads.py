"""How long threads keep Python's lock from each other, and a thread for what computes for long."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

_INTERVAL_S = 0.000_5

Result = TypeVar("Result")


def hand_over_soon() -> None:
    """Has a thread that computes in Python hand the lock over after half a millisecond.

    Python's own 5 ms are waited at every step of all other threads: a call of the event loop has
    tens of them, a batch in the encoder hundreds, one or two for each operation of torch.
    """
    sys.setswitchinterval(_INTERVAL_S)


class SideThread:
    """One thread, on which callers have in turn what is too long for a turn of the event loop.

    One, because Python computes on one thread at a time anyway: further ones would only keep the
    event loop waiting for longer.
    """

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """The function's result; what has not begun when the caller is gone never does."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, function, *arguments)

    def close(self) -> None:
        """Drops what has not begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)
