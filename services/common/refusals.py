"""Log lines about refused calls: one a second at most, however many calls are refused."""

from __future__ import annotations

import asyncio
import contextvars
import logging

_PERIOD_S = 1.0


class RefusalLog:
    """Writes the first refusal at once, and what comes within a second of a line in the next one.

    Owned by the event loop.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._more = 0
        self._last: tuple[str, str, dict[str, str]] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def add(self, method: str, message: str, extra: dict[str, str]) -> None:
        """Counts a call of `method`, refused with `message`; `extra` are fields of its line."""
        if self._timer is None:
            self._log.info("%s failed: %s", method, message, extra=extra)
            self._wait()
        else:
            self._more += 1
            self._last = method, message, extra

    def _wait(self) -> None:
        # In a context of its own: the line is not of the call that happens to start the timer.
        loop, context = asyncio.get_running_loop(), contextvars.Context()
        self._timer = loop.call_later(_PERIOD_S, self._tell, context=context)

    def _tell(self) -> None:
        self._timer = None
        if self._last is not None:
            method, message, extra = self._last
            more, self._more, self._last = self._more, 0, None
            self._log.info(
                "%d more calls were refused; the last: %s failed: %s",
                more,
                method,
                message,
                extra={**extra, "refused": more},
            )
            self._wait()
