"""What is measured on a full collection, beside a small one: each step returns what it found."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks import pixmaps, rows, stacks
from benchmarks.report import percentile
from benchmarks.scale import world
from benchmarks.scale.building import Building
from benchmarks.scale.filling import Filler, Filling, timed_ms, write
from benchmarks.scale.stage import LARGE, SMALL, Stage
from benchmarks.scale.transfer import Transfers
from glimpse.errors import GlimpseError
from glimpse.results import Outcome
from services.common.deadline import Deadline
from services.indexer.records import Image
from services.vectors import bounds
from services.vectors.records import CollectionSpec

SMALL_BLOCKS = 1  # and the pictures that are indexed again and again: 20,000 rows
CALLERS = (1, 8, 32)
_LIMIT = 10
_PAGES = 8  # of the deepest
_LOOK_S = 1.0
_TIMEOUT_S = 600.0
_WIDER = (128, 256, 512, 1_024)  # ef, and of IVF an eighth of it as nprobe


class Steps:
    """The steps, by method; `results` are those of the steps before."""

    def __init__(
        self, stage: Stage, results: dict[str, Any], keep: Callable[[dict[str, Any]], None]
    ) -> None:
        self._stage = stage
        self._results = results
        self._keep = keep
        self._rows = stage.options.rows

    async def small(self) -> dict[str, Any]:
        """A collection of 20,000 rows, settled: what the large one is held against."""
        empty_mb = self._stage.rss_mb()
        await self._fresh(SMALL)
        for block in range(SMALL_BLOCKS):
            await write(self._stage.store, SMALL, world.block_rows(block))
        await self._piped(SMALL)
        await self._stage.store.settle(SMALL, deadline=Deadline(_TIMEOUT_S))
        is_whole = await Building(self._stage, SMALL).merged(_TIMEOUT_S)
        return {"empty_mb": empty_mb, "is_whole": is_whole}

    async def fill(self) -> dict[str, Any]:
        """The large collection, searched all the while."""
        stage = self._stage
        filling = Filling(**self._results.get("filling", {}))
        if not filling.done_rows:
            await self._fresh(LARGE)

        def keep() -> None:
            self._keep({"filling": asdict(filling)})

        filler = Filler(stage.store, stage.milvus, stage.client, stage.generator, stage.server.pid)
        await filler.fill(LARGE, self._rows, filling, keep)
        return {}

    async def build(self) -> dict[str, Any]:
        """Until every row is found through the index, with searches meanwhile."""
        return await Building(self._stage, LARGE).settle()

    async def compact(self) -> dict[str, Any]:
        """Until Milvus has merged the segments and built their index anew, or for a while."""
        return await Building(self._stage, LARGE).merge()

    async def searches(self) -> dict[str, Any]:
        """1, 8 and 32 callers, plain and filtered; of one caller, small, large and bare in turn."""
        load, found = self._stage.load, {}
        await asyncio.to_thread(stacks.wait_until_idle)
        for name, each in world.FILTERS.items():
            found[name] = {
                str(callers): await load("vectors", LARGE, filter=each.expression, callers=callers)
                for callers in CALLERS
            }
            found[name]["bare"] = await load("bare_vectors", LARGE, filter=each.expression)
        found["in turn"] = [
            {
                f"{what} {collection}": await load(what, collection)
                for what in ("vectors", "bare_vectors")
                for collection in (SMALL, LARGE)
            }
            for _ in range(self._stage.options.rounds)
        ]
        return found

    async def pages(self) -> dict[str, Any]:
        """Pages of 10 hits, up to the deepest that there may be."""
        deepest = min(bounds.MAX_WINDOW, self._rows) - _LIMIT
        return {
            str(offset): {
                what: await self._stage.load(what, LARGE, offset=offset, max_calls=_PAGES)
                for what in ("vectors", "bare_vectors")
            }
            for offset in sorted({10, 100, 1_000, deepest})
        }

    async def recall(self) -> dict[str, Any]:
        """By id and by score, as it is and, from pymilvus, with wider parameters."""
        asked = world.queries(self._stage.options.queries)
        exact = await asyncio.to_thread(
            world.exact_neighbours,
            *(asked, self._rows // world.BLOCK_ROWS, _LIMIT, list(world.FILTERS.values())),
        )
        found: dict[str, Any] = {}
        for (name, each), nearest in zip(world.FILTERS.items(), exact, strict=True):
            ours = await self._stage.store.search(
                *(LARGE, asked, _LIMIT),
                deadline=Deadline(_TIMEOUT_S),
                filter=each.expression,
                consistency="strong",
            )
            hits = [[(hit.id, hit.score) for hit in one] for one in ours]
            found[name] = world.recall(nearest, hits) | {"rows": nearest.rows}
        found["wider"] = {
            str(ef): await asyncio.to_thread(self._bare_recall, asked, exact[0], ef)
            for ef in _WIDER
        }
        return found

    async def streaming(self) -> dict[str, Any]:
        """Searches while rows stream in; those written are there already."""
        writing = asyncio.create_task(self._write_on())
        try:
            found = await self._stage.load(
                "vectors", LARGE, seconds=2 * self._stage.options.seconds
            )
        finally:
            writing.cancel()
            written = await asyncio.gather(writing, return_exceptions=True)
        return found | {"ended": type(written[0]).__name__}

    async def rerun(self) -> dict[str, Any]:
        """10,000 unchanged pictures through the indexer's pipeline, into each, in turn."""
        first = await self._piped(LARGE)
        rounds = []
        for _ in range(self._stage.options.rounds):
            rounds.append({name: await self._piped(name) for name in (SMALL, LARGE)})
        for outcomes in rounds[-1].values():
            if outcomes["unchanged"] != self._stage.options.pictures:
                raise RuntimeError(f"not unchanged: {outcomes}")
        return {"first": first, "rounds": rounds}

    async def catalog(self) -> dict[str, Any]:
        """What describes and counts, in milliseconds."""
        stage = self._stage
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "get_collection": lambda: stage.client.get_collection(LARGE),
            "get_collection_small": lambda: stage.client.get_collection(SMALL),
            "list_collections": stage.client.collections,
            "count_images": lambda: stage.client.count_images(LARGE),
            "count_images_1%": lambda: stage.client.count_images(
                LARGE, world.FILTERS["1%"].expression
            ),
        }
        return {
            name: percentile([await timed_ms(call()) for _ in range(5)], 0.5)
            for name, call in calls.items()
        }

    async def upsert(self) -> dict[str, Any]:
        """1% of the rows once more."""
        count = max(self._rows // 100, 1)
        block = (await asyncio.to_thread(world.block_rows, 0))[:count]
        began_s = time.perf_counter()
        await write(self._stage.store, LARGE, block)
        seconds = time.perf_counter() - began_s
        return {"rows": len(block), "per_s": round(len(block) / seconds, 1)}

    async def delete(self) -> dict[str, Any]:
        """1% of the rows, by a filter, and a count that no longer has them."""
        stage, expression = self._stage, world.FILTERS["1%"].expression
        before = await stage.client.count_images(LARGE)
        began_s = time.perf_counter()
        deleted = await stage.client.delete(LARGE, filter=expression, timeout_s=_TIMEOUT_S)
        seconds = round(time.perf_counter() - began_s, 3)
        after = await stage.client.count_images(LARGE)
        if before - after != deleted:
            raise RuntimeError(f"{deleted} were deleted, and {before} are {after} now")
        began_s = time.perf_counter()
        there = world.FILTERS["50%"].expression
        taken = await asyncio.to_thread(
            stage.milvus.query, LARGE, filter=there, output_fields=["count(*)"], timeout=_TIMEOUT_S
        )
        counting_s = round(time.perf_counter() - began_s, 3)
        return {"rows": deleted, "s": seconds, "left": taken[0]["count(*)"], "count_s": counting_s}

    async def restart(self) -> dict[str, Any]:
        """The server stopped and started; how long until each collection is searched again. Ends
        when the server is quiet: its memory is then what it has loaded, without a log of writes
        that it would read once more."""
        stage = self._stage
        for name in (SMALL, LARGE):
            await stage.store.settle(name, deadline=Deadline(_TIMEOUT_S))
        await asyncio.to_thread(stage.server.stop)
        began_s = time.perf_counter()
        found: dict[str, Any] = {}
        for name in (SMALL, LARGE):
            while not await self._is_searched(name):
                if time.perf_counter() - began_s > _TIMEOUT_S:
                    raise RuntimeError(f"{name} was not searched again after a restart")
                await asyncio.sleep(_LOOK_S)
            found[f"{name}_s"] = round(time.perf_counter() - began_s, 1)
        pids = {"milvus": stage.server.pid}
        return found | {"quiet": await asyncio.to_thread(stacks.wait_until_quiet, pids, 120.0)}

    async def _is_searched(self, name: str) -> bool:
        """Whether it is now. A server that had to be killed does not start at once."""
        if not self._stage.server.is_running:
            await asyncio.to_thread(self._stage.server.start)
        vector = world.queries(1)[0].tolist()
        with contextlib.suppress(GlimpseError):
            await self._stage.client.search(name, vector=vector, timeout_s=_LOOK_S * 10)
            return True
        return False

    def _bare_recall(self, asked: np.ndarray, exact: world.Exact, ef: int) -> dict[str, float]:
        parameters = {"params": {"ef": ef, "nprobe": max(ef // 8, 1)}}
        answers, seconds = [], []
        for query in asked:
            began_s = time.perf_counter()
            (hits,) = self._stage.milvus.search(
                *(LARGE, query[None]),
                limit=_LIMIT,
                anns_field="vector",
                search_params=parameters,
                timeout=_TIMEOUT_S,
            )
            seconds.append(1000 * (time.perf_counter() - began_s))
            answers.append([(hit["id"], hit["distance"]) for hit in hits])
        p50_ms, p99_ms = percentile(seconds, 0.5), percentile(seconds, 0.99)
        return world.recall(exact, answers) | {"p50_ms": p50_ms, "p99_ms": p99_ms}

    async def transfer(self) -> dict[str, Any]:
        """Export and import, each beside bare pymilvus."""
        return await Transfers(self._stage, LARGE, self._fresh).measure()

    async def _fresh(self, name: str) -> None:
        """An empty collection, for the model of the table of vectors."""
        store, model = self._stage.store, rows.MODEL
        if name in await store.list_collections(deadline=Deadline(_TIMEOUT_S)):
            await store.drop_collection(name, deadline=Deadline(_TIMEOUT_S))
        await store.create_collection(
            CollectionSpec(name, world.DIMENSION, model.name, model.fingerprint),
            deadline=Deadline(_TIMEOUT_S),
        )

    async def _piped(self, name: str) -> dict[str, Any]:
        """The same pictures every time, through the indexer's pipeline; its outcomes and time."""
        images = [
            Image(number, picture.content or b"", picture.id, picture.address)
            for number, picture in enumerate(
                pixmaps.images(self._stage.options.pictures, prefix="rerun")
            )
        ]
        encoder = rows.TableEncoder(world.clustered(1_024, world.DIMENSION, seed=5))
        began_s = time.perf_counter()
        counts: Counter[Outcome] = await rows.piped(self._stage.store, name, images, encoder)
        seconds = round(time.perf_counter() - began_s, 3)
        return {"s": seconds} | {outcome.value: n for outcome, n in counts.items()}

    async def _write_on(self) -> None:
        block = await asyncio.to_thread(world.block_rows, 0)
        while True:
            await write(self._stage.store, LARGE, block[:4_000])
