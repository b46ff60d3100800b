"""The C library's memory: large blocks are used again, and what is left over is given back.

By default glibc takes a block of more than 32 MiB from the system and returns it each time, page by
page: receiving 63 MiB holds the event loop up for 73 ms so, and for 19 ms in pages that are there.
On the other hand it keeps some hundred MiB after a few such messages, for good: it gives most
threads a heap of their own, and malloc_trim passes over the free end of all heaps but the first.

What large messages took is kept while more of them come: each would take its pages anew, three
times its size.
"""

from __future__ import annotations

import ctypes
import math
import threading
import time

# Names and numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_MAX_KEPT_BYTES = 256 * 2**20  # at the heap's end, between two trims
_LOOK_S = 5.0
_KEPT_S = 10.0  # after the last large block


class Reuse:
    """When a large block was used last; the process has one heap, and HEAP for it. Any thread."""

    def __init__(self) -> None:
        self._last_s = -math.inf

    def note(self) -> None:
        """A large block was used just now."""
        self._last_s = time.monotonic()

    def is_over(self, now_s: float) -> bool:
        """Whether another one is not to be expected any more."""
        return now_s - self._last_s > _KEPT_S


HEAP = Reuse()


def share_heap() -> None:
    """Lets all threads have one heap, in which large blocks are used again; to be called before
    there are threads. Does nothing where the C library is not glibc."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim"):
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, _MAX_KEPT_BYTES)


def give_back() -> None:
    """Returns the heap's free pages to the system; in half a millisecond where there are few."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def give_back_often() -> None:
    """Has a thread do so every few seconds, until the process ends; not while large blocks are
    used."""

    def go_on() -> None:
        while not stop.wait(_LOOK_S):
            if HEAP.is_over(time.monotonic()):
                give_back()

    stop = threading.Event()
    threading.Thread(target=go_on, name="give-back", daemon=True).start()
