"""Waiting for what has no event to wait for: another task's state, a server's, a process's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


async def until(holds: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Returns once it holds. Raises TimeoutError, asyncio's on older Pythons."""

    async def look() -> None:
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    await asyncio.wait_for(look(), timeout_s)


def wait_until(holds: Callable[[], object], what: str, timeout_s: float = 120.0) -> None:
    """As until, where there is no event loop. Raises TimeoutError, which says `what` failed."""
    ends_s = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > ends_s:
            raise TimeoutError(what)
        time.sleep(0.05)
