"""What Milvus last said of its collections, for as long as callers trust that."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from glimpse.errors import DeadlineExceeded, FailedPrecondition, NotFound
from services.vectors.milvus import generations, schema
from services.vectors.milvus.connection import MilvusCall

_MAX_COLLECTIONS = 1_024  # remembered; the least recently used goes
_AHEAD = 0.5
"""Of the time that callers trust an answer: behind it, the next question is under way before any of
them has to wait for its answer. A Milvus server that changes another collection takes its time."""


@dataclass(eq=False)
class _LookUp:
    """One question to Milvus, and how many callers wait for its answer."""

    answer: asyncio.Task[schema.Known]
    waiting: int = 0
    started_s: float = field(default_factory=time.monotonic)


class KnownCollections:
    """Remembers collections and shares look-ups; owned by the event loop.

    A collection that was looked up by its own name is also known by that of its generation.

    A look-up has the deadline of the caller who starts it. It is cancelled when those who waited
    for it have left; as long as somebody does, one who leaves disturbs nobody. Of what callers go
    on asking for, look-ups are made ahead, and nobody waits.
    """

    def __init__(self) -> None:
        self._remembered: OrderedDict[str, _LookUp] = OrderedDict()
        self._under_way: dict[str, _LookUp] = {}

    async def get(self, call: MilvusCall, max_age_s: float) -> schema.Known:
        """What the call's name means, by a look-up that began at most `max_age_s` before.

        Raises NotFound, FailedPrecondition (FOREIGN_COLLECTION) and what else Milvus answers. To be
        cancelled at the call's deadline.
        """
        name, now_s = call.name, time.monotonic()
        oldest_s = now_s - max_age_s
        look_up = self._remembered.get(name)
        if look_up is not None and look_up.started_s > oldest_s:
            self._remembered.move_to_end(name)
            if look_up.started_s < now_s - _AHEAD * max_age_s and name not in self._under_way:
                self._begin(call)
            return look_up.answer.result()
        while (look_up := self._under_way.get(name)) and look_up.started_s > oldest_s:
            try:
                return await self._answer(name, look_up)
            except DeadlineExceeded:  # that of the one who started it
                self._leave(name, look_up)
        return await self._answer(name, self._begin(call))

    def knows(self, name: str) -> bool:
        """Whether get() may answer without asking Milvus."""
        return name in self._remembered

    def forget(self, name: str) -> None:
        """Makes the next get() ask Milvus, whatever is under way."""
        self._under_way.pop(name, None)
        look_up = self._remembered.pop(name, None)
        if look_up is not None:
            spec = look_up.answer.result().spec
            for other in (spec.name, spec.address):
                if self._remembered.get(other) is look_up:
                    del self._remembered[other]

    def _begin(self, call: MilvusCall) -> _LookUp:
        name = call.name
        self._under_way[name] = look_up = _LookUp(
            asyncio.create_task(generations.resolve(call, name))
        )
        look_up.answer.add_done_callback(lambda _: self._end(name, look_up))
        return look_up

    async def _answer(self, name: str, look_up: _LookUp) -> schema.Known:
        look_up.waiting += 1
        try:
            # Unlike the task itself, this may be cancelled without cancelling it.
            await asyncio.wait([look_up.answer])
        finally:
            look_up.waiting -= 1
            if not look_up.waiting and not look_up.answer.done():
                self._leave(name, look_up)
                look_up.answer.cancel()
        return look_up.answer.result()

    def _leave(self, name: str, look_up: _LookUp) -> bool:
        """Ends the look-up's being the one to wait for; false where it no longer was."""
        if self._under_way.get(name) is not look_up:
            return False
        del self._under_way[name]
        return True

    def _end(self, name: str, look_up: _LookUp) -> None:
        is_current = self._leave(name, look_up)
        error = None if look_up.answer.cancelled() else look_up.answer.exception()
        if look_up.answer.cancelled() or not is_current:
            return
        if error is not None:
            if isinstance(error, (NotFound, FailedPrecondition)):
                self.forget(name)
            return
        for known_as in (look_up.answer.result().spec.address, name):
            self._remembered[known_as] = look_up
            self._remembered.move_to_end(known_as)
        while len(self._remembered) > _MAX_COLLECTIONS:
            self._remembered.popitem(last=False)
