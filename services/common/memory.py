"""The C library's memory: large blocks are used again, and what is left over is given back.

By default glibc takes a block of more than 32 MiB from the system and returns it each time, page by
page: receiving 63 MiB holds the event loop up for 73 ms so, and for 19 ms in pages that are there.
On the other hand it keeps some hundred MiB after a few such messages, for good.
"""

from __future__ import annotations

import asyncio
import ctypes
import resource
from pathlib import Path

# Names and numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_MAX_KEPT_BYTES = 256 * 2**20  # at the heap's end, between two looks
_EVERY_S = 5.0
_WORTHWHILE_BYTES = 32 * 2**20
_STATM = Path("/proc/self/statm")


def keep_pages() -> None:
    """Lets large blocks be used again; does nothing where the C library is not glibc."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim"):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, _MAX_KEPT_BYTES)


async def give_back() -> None:
    """Returns free pages to the system, every few seconds if the process has grown; until
    cancelled."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):
        return
    kept_bytes = _resident_bytes()
    while True:
        await asyncio.sleep(_EVERY_S)
        if _resident_bytes() > kept_bytes + _WORTHWHILE_BYTES:
            await asyncio.to_thread(libc.malloc_trim, 0)
            kept_bytes = _resident_bytes()
        kept_bytes = min(kept_bytes, _resident_bytes())


def _resident_bytes() -> int:
    return int(_STATM.read_text().split()[1]) * resource.getpagesize()
