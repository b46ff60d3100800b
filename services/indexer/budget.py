"""How many bytes of images a stream may hold at once; whose bytes they are is not its job."""

from __future__ import annotations

import asyncio

from prometheus_client import Gauge


class Budget:
    """A bound on bytes. One task reserves, any may release; all on one event loop."""

    def __init__(self, max_bytes: int, gauge: Gauge) -> None:
        self._max_bytes = max_bytes
        self._gauge = gauge
        self._held_bytes = 0
        self._released = asyncio.Event()

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    async def reserve(self, size_bytes: int) -> None:
        """Waits until `size_bytes` fit. What is larger than the whole bound passes alone."""
        while self._held_bytes and self._held_bytes + size_bytes > self._max_bytes:
            self._released.clear()
            await self._released.wait()
        self._held_bytes += size_bytes
        self._gauge.inc(size_bytes)

    def release(self, size_bytes: int) -> None:
        self._held_bytes -= size_bytes
        self._gauge.dec(size_bytes)
        self._released.set()


class Held:
    """What one image holds of a budget, given back part by part."""

    def __init__(self, budget: Budget, **parts_bytes: int) -> None:
        self._budget = budget
        self._parts_bytes = parts_bytes

    async def reserve(self) -> None:
        """Waits until all parts fit together."""
        await self._budget.reserve(sum(self._parts_bytes.values()))

    def release(self, *parts: str) -> None:
        """Gives parts back, all if none is named; one given back already counts nothing."""
        names = parts or tuple(self._parts_bytes)
        self._budget.release(sum(self._parts_bytes.pop(name, 0) for name in names))
