"""Trying again, with back-off, while a peer is away; which peer and what for is its owner's job."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from glimpse import backoff, errors

Result = TypeVar("Result")

TRANSIENT = (errors.Unavailable, errors.Overloaded, errors.DeadlineExceeded)
"""Errors that another try may end well."""

log = logging.getLogger(__name__)


class RetryBudget:
    """How long a stream waits for one peer.

    The budget counts from the first failure since the peer last answered, not per call: of a peer
    that has been away for longer, the calls that follow fail after one try each, so that a long
    stream ends in minutes and still notices when the peer is back.
    """

    def __init__(self, peer: str, budget_s: float) -> None:
        self._peer = peer
        self._budget_s = budget_s
        self._away_since_s: float | None = None

    async def call(self, operation: Callable[[], Awaitable[Result]]) -> Result:
        """The operation's result; Unavailable once the budget is spent, other errors at once."""
        failures = 0
        while True:
            try:
                result = await operation()
            except TRANSIENT as error:
                failures += 1
                await self._wait_or_raise(error, failures)
            except errors.GlimpseError:
                self._away_since_s = None
                raise
            else:
                self._away_since_s = None
                return result

    async def _wait_or_raise(self, error: errors.GlimpseError, failures: int) -> None:
        now_s = time.monotonic()
        if self._away_since_s is None:
            self._away_since_s = now_s
            log.warning("%s is unavailable, retrying: %s", self._peer, error)
        left_s = self._away_since_s + self._budget_s - now_s
        if left_s <= 0:
            raise errors.Unavailable(
                f"given up on {self._peer} after {self._budget_s:g} s: {error}",
                retry_after_s=backoff.MAX_S,
            ) from error
        delay_s = max(error.retry_after_s or 0, backoff.backoff_s(failures))
        await asyncio.sleep(min(delay_s, left_s))
