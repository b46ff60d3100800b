"""Room on the disk: what a run needs, and whether it is there before the run begins."""

from __future__ import annotations

import shutil
from pathlib import Path

# Of Milvus 2.3.5 with SETTINGS, as measured with 20,000 rows: log of writes, segments and index;
# both of them twice while segments are merged.
_ROW_BYTES, _MERGED_ROW_BYTES = 8_000, 12_000
_EXPORTED_ROW_BYTES = 2_600
_TRANSFERRED_ROW_BYTES = 12_000  # of an import, of which two are there at a time
_KIND_ROW_BYTES = 22_000  # a vector, in each kind of index
_OTHER_BYTES = 10**9  # the server itself, and its etcd

SETTINGS = {
    "DATACOORD_GC_INTERVAL": "60",
    "DATACOORD_GC_DROPTOLERANCE": "300",
}
"""Milvus keeps the files of segments and indexes that it has replaced for three hours, by default:
all that a run makes. Nothing reads them any more after some minutes."""


def needed_bytes(rows: int, kind_rows: int, transfer_rows: int) -> int:
    """On the disk, at most."""
    moved = rows * _EXPORTED_ROW_BYTES + 2 * transfer_rows * _TRANSFERRED_ROW_BYTES
    later = rows * _ROW_BYTES + max(moved, kind_rows * _KIND_ROW_BYTES)
    return max(rows * _MERGED_ROW_BYTES, later) + _OTHER_BYTES


def check(folder: Path, needed: int) -> None:
    """Raises SystemExit where the disk of the store's folder has not that many bytes, with what is
    in the folder already."""
    folder.mkdir(parents=True, exist_ok=True)
    free, there = shutil.disk_usage(folder).free, size_bytes(folder)
    has = free + there
    if has < needed:
        raise SystemExit(
            f"this needs about {needed / 1e9:.0f} GB in {folder}, and {has / 1e9:.0f} GB are free: "
            "make room there, or take fewer ROWS"
        )


def size_bytes(folder: Path) -> int:
    """Of all files below, as the disk has them."""
    return sum(size_of(path) for path in folder.rglob("*"))


def size_of(path: Path) -> int:
    """Of one; 0 of a folder, and of what is not there."""
    try:
        return 512 * path.stat().st_blocks if path.is_file() else 0
    except OSError:  # removed while it was looked at
        return 0
