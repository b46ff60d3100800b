"""Whether the service can answer anything, as its health says; its peers' own health is theirs."""

from __future__ import annotations

import asyncio
import logging

from glimpse.errors import GlimpseError
from services.common.deadline import Deadline
from services.common.server import Server
from services.vectors.store import VectorStore

# One slow answer of a busy store must not take all replicas out at once.
_MAX_FAILURES = 3

log = logging.getLogger(__name__)


async def watch(server: Server, store: VectorStore, interval_s: float) -> None:
    """Sets health until cancelled: SERVING once the store answers, NOT_SERVING once it is silent.

    The encoder does not count: without it, searches by id and by vector are still answered.
    """
    serving, failures = False, _MAX_FAILURES
    while True:
        try:
            await store.ready(deadline=Deadline(interval_s))
            failures = 0
        except GlimpseError as error:
            failures += 1
            log.debug("Milvus does not answer: %s", error)
        if serving != (failures < _MAX_FAILURES):
            serving = not serving
            log.log(
                logging.INFO if serving else logging.ERROR,
                "Milvus answers" if serving else "Milvus does not answer; health is NOT_SERVING",
            )
            await server.set_serving(serving)
        await asyncio.sleep(interval_s)
