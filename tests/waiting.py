"""Waiting for what has no event to wait for: another task's state, a server's, a process's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


async def until(holds: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Returns once it holds. Raises TimeoutError, asyncio's on older Pythons."""

    async def look() -> None:
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    await asyncio.wait_for(look(), timeout_s)


async def until_answered(
    call: Callable[[], Awaitable[Result]],
    is_expected: Callable[[Exception], bool],
    timeout_s: float = 60.0,
) -> Result:
    """What the call gives once it no longer fails as expected; past the time, its last error."""
    ends_s = time.monotonic() + timeout_s
    while True:
        try:
            return await call()
        except Exception as error:
            if not is_expected(error) or time.monotonic() > ends_s:
                raise
            await asyncio.sleep(0.1)


async def until_all_wait() -> None:
    """Returns once no task of the event loop can go on by itself."""
    ready: Any = asyncio.get_running_loop()
    while ready._ready:  # noqa: ASYNC110  # asyncio does not tell otherwise
        await asyncio.sleep(0)


async def started(coroutine: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
    """A task that has gone on, and all others with it, until something must happen."""
    task = asyncio.create_task(coroutine)
    await until_all_wait()
    return task


def wait_until(
    holds: Callable[[], object], what: str, timeout_s: float = 120.0, look_s: float = 0.05
) -> None:
    """As until, where there is no event loop. Raises TimeoutError, which says `what` failed."""
    ends_s = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > ends_s:
            raise TimeoutError(what)
        time.sleep(look_s)
