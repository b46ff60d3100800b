"""What has to stay free of the disk that Milvus Lite writes to, where that is on this machine."""

from __future__ import annotations

import shutil

from glimpse.errors import Overloaded
from services.indexer.settings import IndexerSettings

_AGAIN_S = 1.0


def check_room(settings: IndexerSettings) -> None:
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
