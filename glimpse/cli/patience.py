"""Calls are made again while a service is away, as one is that is started anew; streams of images
have a patience of their own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from glimpse.backoff import backoff_s
from glimpse.calls import UnaryCall
from glimpse.client import Client
from glimpse.errors import DeadlineExceeded, Overloaded, Unavailable

Result = TypeVar("Result")

_AWAY = (Unavailable, Overloaded, DeadlineExceeded)


class PatientClient(Client):
    """A Client whose calls of the indexer are made again for `patience_s` while it is away, once it
    has answered: one that never was there is told of at once."""

    patience_s = 0.0
    _has_answered = False

    def _answer(self, call: UnaryCall[Result]) -> Result:
        if call.service != "indexer":
            return super()._answer(call)
        patience_s = self.patience_s if self._has_answered else 0.0
        result = patiently(lambda: super(PatientClient, self)._answer(call), patience_s)
        self._has_answered = True
        return result


def patiently(call: Callable[[], Result], patience_s: float) -> Result:
    """What it returns, in the end; after that time, it raises what the last try has."""
    ends_s, failures = time.monotonic() + patience_s, 0
    while True:
        try:
            return call()
        except _AWAY as error:
            failures += 1
            delay_s = max(backoff_s(failures), error.retry_after_s or 0.0)
            if time.monotonic() + delay_s > ends_s:
                raise
            time.sleep(delay_s)
