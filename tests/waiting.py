"""Waiting for what has no event to wait for: another task's state, a server's, a process's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(holds: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Returns once it holds. Raises TimeoutError, asyncio's on older Pythons."""

    async def look() -> None:
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    await asyncio.wait_for(look(), timeout_s)
