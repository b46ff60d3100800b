"""Whether what was written is in the generation that serves, so that no switch can lose it."""

from __future__ import annotations

from glimpse import errors
from services.common.deadline import Deadline
from services.indexer.retry_budget import RetryBudget
from services.vectors.store import VectorStore


class Superseded(errors.Unavailable):
    """Another generation serves than the one that was written to."""

    reason = "RESUME"


async def check_serving(
    store: VectorStore, collection: str, address: str, milvus: RetryBudget, timeout_s: float
) -> None:
    """Raises Superseded if another generation than that of `address` serves the collection now.

    Called after a write and before its acknowledgement: what is acknowledged is then in the one
    that served, before a switch. Each try has `timeout_s`.
    """
    spec = await milvus.call(lambda: store.get_spec(collection, deadline=Deadline(timeout_s)))
    if spec.address != address:
        raise Superseded(
            f"generation {spec.generation} of collection {collection!r} serves now; "
            "send unacknowledged images again"
        )
