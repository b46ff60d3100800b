"""Until a collection has come to rest: its rows get their index, and Milvus merges its segments;
with searches in between, as somebody makes them meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from pymilvus.exceptions import MilvusException

from benchmarks import stacks
from benchmarks.scale.stage import Stage
from glimpse.cli.console import say
from glimpse.cli.index_progress import duration
from glimpse.errors import GlimpseError
from services.common.deadline import Deadline
from services.vectors.milvus import schema

_LOOK_S = 1.0
_RESTING_LOOKS = 10  # in a row without a change: Milvus thinks of the next merge every few seconds
_REST_SHARE = 2.0  # of the time of a look: with searches all the time, two cores build half as fast
_SAY_S = 60.0
_TIMEOUT_S = 60.0


class Building:
    """Waits, at most for the time that the options give, and keeps what was seen."""

    def __init__(self, stage: Stage, collection: str) -> None:
        self._stage = stage
        self._name = collection
        self._max_s = stage.options.max_wait_s

    async def settle(self) -> dict[str, Any]:
        """Until every row is found through the index; `settled` is false where it was not."""
        found, settled = await self._searched_during(self._settled())
        return found | {"settled": settled}

    async def merge(self) -> dict[str, Any]:
        """Until Milvus has merged the segments, and built their index anew; `is_whole` is false
        where it had not."""
        found, is_whole = await self._searched_during(self.merged(self._max_s))
        return found | {"is_whole": is_whole}

    async def _settled(self) -> bool:
        try:
            await self._stage.store.settle(self._name, deadline=Deadline(self._max_s))
        except GlimpseError as error:
            say(f"    not settled: {error}")
            return False
        return True

    async def merged(self, max_wait_s: float) -> bool:
        """Whether Milvus was at rest within that time: nothing to merge, and no row to index."""
        if self._stage.options.store == "lite":
            return True
        ends_s = time.monotonic() + max_wait_s
        job = await asyncio.to_thread(self._stage.milvus.compact, self._name)
        seen: Any = None
        looks = 0
        while time.monotonic() < ends_s:
            at_rest, state = await asyncio.to_thread(self._look, job)
            looks = looks + 1 if at_rest and state == seen else 0
            if looks == _RESTING_LOOKS:
                await asyncio.to_thread(
                    stacks.wait_until_quiet, {"milvus": self._stage.server.pid}, _TIMEOUT_S
                )
                return True
            seen = state
            await asyncio.sleep(_LOOK_S)
        return False

    def _look(self, job: int) -> tuple[bool, Any]:
        """Whether nothing is under way, and what would be another thing if something had been."""
        milvus = self._stage.milvus
        try:
            compaction = milvus.get_compaction_state(job, timeout=_TIMEOUT_S)
            index = milvus.describe_index(self._name, schema.INDEX_NAME, timeout=_TIMEOUT_S)
        except MilvusException:  # busy; nobody has to know how far it is
            return False, None
        at_rest = compaction == "Completed" and not index["pending_index_rows"]
        return at_rest, (index["total_rows"], index["indexed_rows"])

    async def _searched_during(
        self, work: Coroutine[Any, Any, bool]
    ) -> tuple[dict[str, Any], bool]:
        """Looks now and then until it is done; what was seen, and what it says."""
        began_s, said_s = time.perf_counter(), 0.0
        looks: list[dict[str, Any]] = []
        task = asyncio.create_task(work)
        try:
            while True:
                look_s = time.perf_counter()
                look = await self._searched(began_s)
                looks.append(look)
                if look["s"] - said_s > _SAY_S:
                    said_s = look["s"]
                    left = f", {duration(look['left_s'])} left" if look["left_s"] else ""
                    say(f"    {look['state']}: {look['pending_rows']:,} rows pending{left}")
                rest_s = _REST_SHARE * (time.perf_counter() - look_s)
                await asyncio.wait({task}, timeout=rest_s)
                if task.done():
                    seconds = round(time.perf_counter() - began_s, 1)
                    return {"s": seconds, "looks": looks}, task.result()
        finally:
            task.cancel()

    async def _searched(self, began_s: float) -> dict[str, Any]:
        """Searches by one caller, and how the rows and the server are."""
        found = await self._stage.load("vectors", self._name)
        info = await self._stage.client.get_collection(self._name, timeout_s=_TIMEOUT_S)
        return {
            "s": round(time.perf_counter() - began_s, 1),
            "p50_ms": found.get("p50_ms"),
            "p99_ms": found.get("p99_ms"),
            "state": info.index_state,
            "indexed_rows": info.indexed_rows,
            "pending_rows": info.pending_rows,
            "left_s": info.index_left_s,
            "rss_mb": self._stage.rss_mb(),
        }
