"""Calls of many callers become few: what waits when a call can go out, goes out together.

There is no fixed wait: alone, a call goes out at once; under load, calls grow by themselves. What
is called.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from glimpse.errors import DeadlineExceeded, as_value
from services.common.deadline import Deadline

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Share(Generic[Answer]):
    """A caller's part of a call: one answer for each of its items, and how long they waited."""

    answers: Sequence[Answer]
    waited_s: float


@dataclass(eq=False)
class _Caller(Generic[Item, Answer]):
    items: Sequence[Item]
    deadline: Deadline
    share: asyncio.Future[Share[Answer]]
    arrived_s: float = field(default_factory=time.perf_counter)
    context: contextvars.Context = field(default_factory=contextvars.copy_context)


@dataclass(eq=False)
class _Line(Generic[Item, Answer]):
    """Those who wait under one key, and the calls of that key for which they wait."""

    waiting: deque[_Caller[Item, Answer]] = field(default_factory=deque)
    under_way: set[asyncio.Task[None]] = field(default_factory=set)


class RequestCoalescer(Generic[Key, Item, Answer]):
    """Sends items under equal keys in common calls; owned by the event loop.

    A call gets the deadline of that of its callers who can wait longest; each caller waits until
    its own. A call for which nobody waits any more is cancelled. One that fails, fails for all. One
    that hangs, such as at a replica that answers no more, keeps others waiting for a moment only.
    """

    def __init__(
        self,
        call: Callable[[Key, list[Item], Deadline], Awaitable[Sequence[Answer]]],
        max_items: Callable[[Key], int],
        max_calls: int,
        max_wait_s: float = 1.0,
    ) -> None:
        """`call` gives one answer per item, in order.

        `max_items` share a call, unless one caller brings more; `max_calls` of a key go out at
        once, those that have taken `max_wait_s` not counted.
        """
        self._call = call
        self._max_items = max_items
        self._max_calls = max_calls
        self._max_wait_s = max_wait_s
        self._lines: dict[Key, _Line[Item, Answer]] = {}

    @property
    def keys(self) -> frozenset[Key]:
        """Those under which somebody waits or a call is under way."""
        return frozenset(self._lines)

    async def ask(self, key: Key, items: Sequence[Item], deadline: Deadline) -> Share[Answer]:
        """Raises DeadlineExceeded, and what the call raises."""
        loop, left_s = asyncio.get_running_loop(), deadline.left_s()
        caller = _Caller(items, deadline, loop.create_future())
        line = self._lines.setdefault(key, _Line())
        line.waiting.append(caller)
        # Not at once: who asks within the same turn of the loop comes along.
        loop.call_soon(self._send, key, line)
        try:
            return await asyncio.wait_for(caller.share, left_s)
        except asyncio.TimeoutError:
            raise DeadlineExceeded("the call's deadline has passed") from None

    def _send(self, key: Key, line: _Line[Item, Answer]) -> None:
        while len(line.under_way) < self._max_calls and (callers := self._take(key, line)):
            # In logs and traces, a call is its first caller's, not theirs who made room for it.
            create = callers[0].context.run
            task = create(asyncio.create_task, self._answer(key, callers))
            line.under_way.add(task)
            asyncio.get_running_loop().call_later(self._max_wait_s, self._release, key, line, task)
            task.add_done_callback(lambda ended: self._release(key, line, ended))
            for caller in callers:
                caller.share.add_done_callback(lambda _, c=callers, t=task: _end_unwanted(c, t))
        if not (line.waiting or line.under_way) and self._lines.get(key) is line:
            del self._lines[key]

    def _release(self, key: Key, line: _Line[Item, Answer], task: asyncio.Task[None]) -> None:
        """The call has ended, or hangs: nobody waits for its place any more."""
        if task in line.under_way:
            line.under_way.remove(task)
            self._send(key, line)

    def _take(self, key: Key, line: _Line[Item, Answer]) -> list[_Caller[Item, Answer]]:
        """Those who wait longest, as many as fit, without those who have gone."""
        callers: list[_Caller[Item, Answer]] = []
        room = self._max_items(key)
        while line.waiting:
            caller = line.waiting[0]
            if not caller.share.done():
                if callers and len(caller.items) > room:
                    break
                room -= len(caller.items)
                callers.append(caller)
            line.waiting.popleft()
        return callers

    async def _answer(self, key: Key, callers: list[_Caller[Item, Answer]]) -> None:
        sent_s = time.perf_counter()
        items = [item for caller in callers for item in caller.items]
        deadline = max((caller.deadline for caller in callers), key=lambda each: each.at_s)
        try:
            answers = await self._call(key, items, deadline)
        except asyncio.CancelledError:
            for caller in callers:
                caller.share.cancel()
            raise
        except Exception as error:
            for caller in callers:
                if not caller.share.done():
                    caller.share.set_exception(as_value(error))
            return
        start = 0
        for caller in callers:
            end = start + len(caller.items)
            if not caller.share.done():
                caller.share.set_result(Share(answers[start:end], sent_s - caller.arrived_s))
            start = end


def _end_unwanted(callers: Sequence[_Caller[Item, Answer]], task: asyncio.Task[None]) -> None:
    if all(caller.share.done() for caller in callers):
        task.cancel()
