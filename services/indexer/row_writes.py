"""Rows go into the store, once: in time, measured, and only where its disk has room for them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from glimpse.errors import Overloaded
from services.common.deadline import Deadline
from services.indexer.metrics import IndexerMetrics
from services.indexer.settings import IndexerSettings
from services.vectors.records import Row
from services.vectors.store import VectorStore

_AGAIN_S = 1.0


async def upsert(
    store: VectorStore,
    collection: str,
    rows: Sequence[Row],
    settings: IndexerSettings,
    metrics: IndexerMetrics,
) -> None:
    """Raises what the store raises, and Overloaded where Milvus Lite's disk is nearly full."""
    _check_room(settings)
    deadline = Deadline(settings.milvus_timeout_s)
    with metrics.store_latency_s.labels("upsert").time():
        await store.upsert(collection, rows, deadline=deadline)


def _check_room(settings: IndexerSettings) -> None:
    """Raises Overloaded where too little is free for Milvus Lite to write out what it takes."""
    folder = settings.milvus_lite_dir
    if folder is None:
        return
    try:
        free_bytes = shutil.disk_usage(folder).free
    except OSError:  # whoever writes there says what is wrong with it
        return
    if free_bytes < settings.min_free_bytes:
        raise Overloaded(
            f"the disk of {folder} has {free_bytes / 1e6:,.0f} MB free, "
            f"{settings.prefix()}MIN_FREE_BYTES is {settings.min_free_bytes / 1e6:,.0f} MB: "
            "make room there",
            retry_after_s=_AGAIN_S,
        )
