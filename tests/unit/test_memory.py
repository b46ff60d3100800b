"""What a process has freed goes back to the system."""

from __future__ import annotations

import asyncio
import ctypes

import pytest

from services.common import memory
from tests.waiting import until

MIB = 2**20


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="glibc alone keeps it")
async def test_free_memory_below_what_is_in_use_is_given_back():
    ctypes.CDLL(None).malloc_trim(0)  # what other tests have left free would be used first
    giving = asyncio.create_task(memory.give_back(every_s=0.01))
    await asyncio.sleep(0)
    blocks = [b"\x01" * 100_000 for _ in range(1_000)]
    last = blocks.pop()  # keeps the heap from shrinking by itself
    grown_bytes = memory.resident_bytes()
    blocks.clear()
    await until(lambda: memory.resident_bytes() < grown_bytes - 64 * MIB)
    giving.cancel()
    assert len(last) == 100_000
