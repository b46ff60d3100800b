"""How many bytes of images a stream may hold at once."""

from __future__ import annotations

import asyncio
from collections import deque


class ByteBudget:
    """A bound on bytes, given out in the order of asking; all on one event loop."""

    def __init__(self, max_bytes: int) -> None:
        self.held_bytes = 0
        self._max_bytes = max_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def waiting(self) -> int:
        """How many wait for bytes."""
        return len(self._waiting)

    async def reserve(self, size_bytes: int) -> None:
        """Waits until `size_bytes` fit. What is larger than the whole bound passes alone."""
        if not self._waiting and self._fits(size_bytes):
            self.held_bytes += size_bytes
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size_bytes, turn))
        try:
            await turn
        except asyncio.CancelledError:
            self.release(0 if turn.cancelled() else size_bytes)  # its turn came at the same moment
            raise

    def release(self, size_bytes: int) -> None:
        """Gives bytes back, and on to those who wait."""
        self.held_bytes -= size_bytes
        while self._waiting:
            waited_bytes, turn = self._waiting[0]
            if not turn.done():
                if not self._fits(waited_bytes):
                    return
                self.held_bytes += waited_bytes
                turn.set_result(None)
            self._waiting.popleft()

    def _fits(self, size_bytes: int) -> bool:
        return not self.held_bytes or self.held_bytes + size_bytes <= self._max_bytes
