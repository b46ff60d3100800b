"""Lines of the log that would repeat: which of them are written; what is in them is their writers'
job."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable


class Repeats:
    """Lets through the first line of a kind, and after that one in `every_s` seconds.

    Kinds that callers can make up are bounded: what is new past `max_kinds` counts as one kind.
    """

    def __init__(
        self, every_s: float, max_kinds: int = 32, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._every_s = every_s
        self._max_kinds = max_kinds
        self._now_s = now_s
        self._due_s: dict[Hashable, float] = {}
        self._left_out: dict[Hashable, int] = {}

    def pass_on(self, kind: Hashable) -> str | None:
        """What to write behind a line of this kind, such as how many were left out before it; None
        where this one is to be left out."""
        now_s = self._now_s()
        if kind not in self._due_s and len(self._due_s) >= self._max_kinds:
            self._forget_old(now_s)
            kind = kind if len(self._due_s) < self._max_kinds else None
        if now_s < self._due_s.get(kind, 0.0):
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return None
        self._due_s[kind] = now_s + self._every_s
        left_out = self._left_out.pop(kind, 0)
        return f" (and {left_out:,} like it before)" if left_out else ""

    def _forget_old(self, now_s: float) -> None:
        for kind in [kind for kind, due_s in self._due_s.items() if due_s <= now_s]:
            del self._due_s[kind]
            self._left_out.pop(kind, None)


class Wait:
    """A wait as the log tells it: for what, at once; for how long already, once a minute; its end.

    `peer` is what is waited for, as in "waiting for Milvus".
    """

    def __init__(
        self,
        peer: str,
        log: logging.Logger,
        every_s: float = 60.0,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._peer = peer
        self._log = log
        self._now_s = now_s
        self._repeats = Repeats(every_s, now_s=now_s)
        self._since_s: float | None = None

    def goes_on(self, why: object) -> None:
        """The peer was asked again, in vain."""
        if self._since_s is None:
            self._since_s = self._now_s()
            self._repeats.pass_on(None)
            self._log.info("waiting for %s: %s", self._peer, why)
        elif self._repeats.pass_on(None) is not None:
            waited_s = self._now_s() - self._since_s
            self._log.warning("still waiting for %s, for %.0f s: %s", self._peer, waited_s, why)

    def ended(self) -> None:
        """The peer has answered."""
        waited_s = 0.0 if self._since_s is None else self._now_s() - self._since_s
        behind = f", after {waited_s:.0f} s" if waited_s else ""
        self._log.info("%s answers%s", self._peer, behind)
        self._since_s = None
