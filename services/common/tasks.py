"""Steps that end with the call that takes them: none is left under way, no error of one unseen."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


async def concurrently(*steps: Coroutine[Any, Any, Any], at_once: int = 0) -> list[Any]:
    """The results of steps that run side by side, in order; `at_once` of them, or 0 for all.

    The first failure, and the caller's cancellation, cancel the others; it is raised once they have
    ended.
    """
    places = asyncio.Semaphore(at_once or max(1, len(steps)))
    tasks = [asyncio.create_task(_in_place(places, step)) for step in steps]
    if not tasks:
        return []
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        return [task.result() for task in tasks if task.done()]
    finally:
        await _end(*tasks)
        for step in steps:
            step.close()  # one that never had its place


async def _in_place(places: asyncio.Semaphore, step: Coroutine[Any, Any, Result]) -> Result:
    async with places:
        return await step


async def run_within(timeout_s: float, step: Coroutine[Any, Any, Result]) -> Result:
    """The step's result; asyncio.TimeoutError, once the step has ended, if it comes too late.

    Like asyncio.wait_for, which before Python 3.12 loses a cancellation that comes together with
    the result, and leaves the error of a step that fails while it is cancelled to be logged as
    "Task exception was never retrieved".
    """
    task = asyncio.create_task(step)
    try:
        await asyncio.wait([task], timeout=timeout_s)
        if not task.done():
            raise asyncio.TimeoutError
    finally:
        await _end(task)
    return task.result()


async def _end(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    # Waits for all of them, even if it is cancelled meanwhile, and looks at their errors.
    await asyncio.gather(*tasks, return_exceptions=True)
