"""Makes collections fast to search after bulks of writes, also when nobody waits for it any more;
how that is done is the store's job."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict

from glimpse import backoff, errors
from services.common.deadline import Deadline
from services.indexer.metrics import IndexerMetrics
from services.indexer.retry_budget import TRANSIENT
from services.indexer.settings import IndexerSettings
from services.vectors.records import NOT_LOADED
from services.vectors.store import VectorStore

# Of one try. A Milvus server is only looked at meanwhile, and builds on whatever becomes of it.
_MAX_TRY_S = 3600.0

Obstacle = errors.FailedPrecondition | None

log = logging.getLogger(__name__)


class Settling:
    """The tasks that settle collections: of each, one that runs and one that waits, at most.

    Owned by the event loop. Stop order: stop() ends the tasks, and with them all waits.
    """

    def __init__(
        self, store: VectorStore, settings: IndexerSettings, metrics: IndexerMetrics
    ) -> None:
        self._store = store
        self._settings = settings
        self._metrics = metrics
        self._tasks: set[asyncio.Task[Obstacle]] = set()
        # Of each collection, the task that has not begun: it takes in all that is written by now.
        self._next: dict[str, asyncio.Task[Obstacle]] = {}
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._stopped = False

    async def settle(self, name: str) -> None:
        """Returns when what was written until now is fast to search, or after the time that a
        caller waits for that at most: then it goes on by itself.

        Raises FailedPrecondition where it cannot be, such as rows that Milvus has lost sight of.
        """
        if self._stopped or not self._settings.settle:
            return
        task = self._begin(name)
        await asyncio.wait([task], timeout=self._settings.settle_timeout_s)
        if not task.done():
            log.info("collection %s is slower to search until its index is built", name)
        elif not task.cancelled() and (error := task.result()) is not None:
            raise error

    async def resume(self) -> None:
        """Begins again for collections whose rows an earlier process has left without an index."""
        if not self._settings.settle:
            return
        timeout_s = self._settings.milvus_timeout_s
        # Whatever fails here: each stream's end sees to its own collection.
        with contextlib.suppress(errors.GlimpseError):
            for name in await self._store.list_collections(deadline=Deadline(timeout_s)):
                with contextlib.suppress(errors.GlimpseError):
                    await self._resume(name, Deadline(timeout_s))

    async def _resume(self, name: str, deadline: Deadline) -> None:
        info = await self._store.describe_collection(name, deadline=deadline, exact=False)
        if info.index_state != NOT_LOADED and info.indexed_rows < info.rows and not self._stopped:
            log.info(
                "collection %s: %d of %d rows have an index", name, info.indexed_rows, info.rows
            )
            self._begin(name)

    def stop(self) -> None:
        """Ends all waits; what a Milvus server has begun, it goes on with."""
        self._stopped = True
        for task in self._tasks:
            task.cancel()

    def _begin(self, name: str) -> asyncio.Task[Obstacle]:
        if (task := self._next.get(name)) is not None:
            return task
        self._next[name] = task = asyncio.create_task(self._run(name))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self, name: str) -> Obstacle:
        turn = self._turns[name]
        try:
            async with turn:
                self._next.pop(name, None)
                return await self._settle(name)
        finally:
            if not turn.locked() and name not in self._next:
                self._turns.pop(name, None)

    async def _settle(self, name: str) -> Obstacle:
        """Tries until it is done, or another try would not help either; returns why not, where that
        is somebody's to mend."""
        failures = 0
        while True:
            try:
                with self._metrics.store_latency_s.labels("settle").time():
                    await self._store.settle(name, deadline=Deadline(_MAX_TRY_S))
            except TRANSIENT as error:
                failures += 1
                if failures == 1:
                    log.warning("collection %s is not settled yet: %s", name, error)
                delay_s = max(error.retry_after_s or 0, backoff.backoff_s(failures))
                await asyncio.sleep(delay_s)
            except errors.NotFound:
                return None  # it was dropped meanwhile
            except errors.GlimpseError as error:
                log.warning("collection %s stays slow to search: %s", name, error)
                return error if isinstance(error, errors.FailedPrecondition) else None
            else:
                return None
