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
_WORTHWHILE_BYTES = 32 * 2**20
_STATM = Path("/proc/self/statm")


def keep_pages() -> None:
    """Lets large blocks be used again; does nothing where the C library is not glibc."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim"):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, _MAX_KEPT_BYTES)


async def give_back(every_s: float = 5.0) -> None:
    """Returns free pages to the system, every few seconds while the process has more memory than it
    had; until cancelled. What stays in spite of several tries is taken to be in use."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):
        return
    usual_bytes = resident_bytes()
    while True:
        await asyncio.sleep(every_s)
        if resident_bytes() > usual_bytes + _WORTHWHILE_BYTES:
            await asyncio.to_thread(libc.malloc_trim, 0)
            usual_bytes += (resident_bytes() - usual_bytes) // 4
        usual_bytes = min(usual_bytes, resident_bytes())


def resident_bytes() -> int:
    """What the process has of the machine's memory."""
    return int(_STATM.read_text().split()[1]) * resource.getpagesize()
