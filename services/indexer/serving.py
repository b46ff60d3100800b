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
