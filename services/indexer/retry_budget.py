"""Trying again, with back-off, while a peer is away; which peer and what for is its owner's job."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from glimpse import errors

Result = TypeVar("Result")

TRANSIENT = (errors.Unavailable, errors.Overloaded, errors.DeadlineExceeded)
"""Errors that another try may end well."""

_FIRST_DELAY_S = 0.1
_MAX_DELAY_S = 5.0

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
        delay_s = _FIRST_DELAY_S
        while True:
            try:
                result = await operation()
            except TRANSIENT as error:
                await self._wait_or_raise(error, delay_s)
                delay_s = min(delay_s * 2, _MAX_DELAY_S)
            except errors.GlimpseError:
                self._away_since_s = None
                raise
            else:
                self._away_since_s = None
                return result

    async def _wait_or_raise(self, error: errors.GlimpseError, delay_s: float) -> None:
        now_s = time.monotonic()
        if self._away_since_s is None:
            self._away_since_s = now_s
            log.warning("%s is away, trying again: %s", self._peer, error)
        left_s = self._away_since_s + self._budget_s - now_s
        if left_s <= 0:
            raise errors.Unavailable(
                f"{self._peer} did not answer within {self._budget_s:g} s: {error}",
                retry_after_s=_MAX_DELAY_S,
            ) from error
        asked_s = error.retry_after_s or 0
        # Jitter keeps many streams from coming back at the same moment.
        delay_s = max(asked_s, delay_s * random.uniform(0.5, 1.0))  # noqa: S311
        await asyncio.sleep(min(delay_s, left_s))
