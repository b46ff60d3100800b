"""Whether what was written may be acknowledged, so that no switch of generations can lose it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from glimpse import errors
from services.common.deadline import Deadline
from services.indexer.retry_budget import RetryBudget
from services.vectors.records import CollectionSpec, now_ms
from services.vectors.store import VectorStore

_LOOK_S = 0.1


class Superseded(errors.Unavailable):
    """Another generation serves than the one that was written to."""

    reason = "RESUME"


async def not_held(look: Callable[[], Awaitable[CollectionSpec]]) -> CollectionSpec:
    """What serves by the time that writes to it are not held; raises what `look` raises."""
    while is_held(spec := await look()):  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_S)
    return spec


def is_held(spec: CollectionSpec) -> bool:
    """Whether writes to it must not be acknowledged yet."""
    return spec.held_until_ms > now_ms()


class SharedCheck:
    """A check that those of one stream make after their writes, one at a time: all whose writes end
    while one is under way share the next. Owned by the event loop."""

    def __init__(self, check: Callable[[], Awaitable[None]]) -> None:
        self._check = check
        self._turn = asyncio.Lock()
        self._begun = self._passed = 0

    async def passed(self) -> None:
        """Returns when one that began after this call has passed; raises what it raises."""
        wanted = self._begun + 1
        async with self._turn:
            if self._passed < wanted:
                self._begun += 1
                number = self._begun
                await self._check()
                self._passed = number


async def check_serving(
    store: VectorStore, collection: str, address: str, milvus: RetryBudget, timeout_s: float
) -> None:
    """Raises Superseded if another generation than that of `address` serves the collection now;
    waits while writes are held.

    Called after a write and before its acknowledgement: what is acknowledged is then in the one
    that served, before its writes were held. Each try has `timeout_s`.
    """
    spec = await not_held(
        lambda: milvus.call(lambda: store.get_spec(collection, deadline=Deadline(timeout_s)))
    )
    if spec.address != address:
        raise Superseded(
            f"generation {spec.generation} of collection {collection!r} serves now; "
            "send unacknowledged images again"
        )
