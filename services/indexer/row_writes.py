"""Rows go into the store, once: in time, measured, and only where its disk has room for them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace

from glimpse.errors import Overloaded
from services.common.deadline import Deadline
from services.common.event_loop import paced
from services.indexer.metrics import IndexerMetrics
from services.indexer.settings import IndexerSettings
from services.vectors.records import Row, now_ms
from services.vectors.store import VectorStore

_AGAIN_S = 1.0


async def upsert(
    store: VectorStore,
    collection: str,
    rows: Sequence[Row],
    settings: IndexerSettings,
    metrics: IndexerMetrics,
) -> None:
    """Rows without a time get that of this try: whoever looks for what is new, looks that far back
    as a try may take.

    Raises what the store raises, and Overloaded where Milvus Lite's disk is nearly full.
    """
    _check_room(settings)
    deadline, tried_at_ms = Deadline(settings.milvus_timeout_s), now_ms()
    timed = [
        row if row.indexed_at_ms else replace(row, indexed_at_ms=tried_at_ms)
        async for row in paced(rows)
    ]
    with metrics.store_latency_s.labels("upsert").time():
        await store.upsert(collection, timed, deadline=deadline)


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
