"""`make bench-scale`: a large collection in a real server, measured in steps; see --help.

Takes up where an interrupted run with the same options has stopped. Writes build/bench/scale.json
and scale.png, after each step what is known by then, and both once more under the number of rows.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from typing import Any

from benchmarks import machine, pixmaps, stacks
from benchmarks.generator import Generator
from benchmarks.report import Report
from benchmarks.scale import figures, world
from benchmarks.scale.charts import charts
from benchmarks.scale.kinds import Kinds
from benchmarks.scale.plots import page
from benchmarks.scale.progress import Progress
from benchmarks.scale.steps import LARGE, Stage, Steps
from benchmarks.tutorial import connect
from glimpse.aio import AsyncClient
from glimpse.cli.console import say
from glimpse.cli.ports import Ports
from services.common.deadline import Deadline
from services.vectors.milvus.store import MilvusStore
from tests.backends import MilvusLite, MilvusServer, has_milvus_server

STEPS = {
    "small": "A collection of 20,000 rows to compare with",
    "fill": "Rows into the collection, while it is searched",
    "build": "Searches until every row is found through the index",
    "compact": "Searches while Milvus merges segments",
    "searches": "1, 8 and 32 callers, with and without filters",
    "pages": "Pages up to the deepest",
    "recall": "Recall against exact neighbours",
    "streaming": "Searches while rows stream in",
    "rerun": "Unchanged pictures once more",
    "catalog": "Describing and counting",
    "transfer": "Export and import of a collection",
    "upsert": "1% of the rows once more",
    "delete": "Deleting 1% by a filter",
    "restart": "Restarting the server",
    "kinds": "Kinds of index side by side",
}
_START_S = 180.0


async def run(options: argparse.Namespace, progress: Progress, report: Report) -> None:
    """All steps that are left; the report is written after each of them."""
    async with _stage(options, progress) as stage:
        steps = Steps(stage, progress.results, lambda partial: _keep(progress, partial))
        for step, what in STEPS.items():
            if progress.is_done(step) or (options.only and step not in options.only):
                continue
            began_s = progress.begin(step, what)
            if step == "kinds":
                found = await asyncio.to_thread(Kinds(stage).measure)
            else:
                found = await getattr(steps, step)()
            memory = progress.results.setdefault("memory", {})
            memory[step] = await _memory(stage)
            progress.end(step, began_s, found)
            _write(options, progress, report)


def _keep(progress: Progress, partial: dict[str, Any]) -> None:
    progress.results |= partial
    progress.keep()


async def _memory(stage: Stage) -> dict[str, float]:
    """What the server holds now, and what docs/sizing.md says of that many rows."""
    rows = 0
    if LARGE in await stage.store.list_collections(deadline=Deadline(_START_S)):
        rows = await stage.store.count(LARGE, deadline=Deadline(_START_S))
    return {"rss_mb": stage.rss_mb(), "rows": rows, "sizing_mb": figures.sizing_mb(rows)}


def _write(options: argparse.Namespace, progress: Progress, report: Report) -> None:
    report.figures = figures.figures(options.rows, progress.results)
    report.details = {
        "options": dict(sorted(vars(options).items())),
        "seconds": progress.seconds,
        "steps": progress.results,
    }
    name = "scale" if options.store == "milvus" else f"scale-{options.store}"
    for each in (name, f"{name}-{options.rows}"):  # those of other sizes stay
        report.write(stacks.OUTPUT / f"{each}.json")
        page(charts(progress.results), stacks.OUTPUT / f"{each}.png")


@contextlib.asynccontextmanager
async def _stage(options: argparse.Namespace, progress: Progress) -> AsyncIterator[Stage]:
    """A server whose files stay, the services between a stub encoder and it, and callers."""
    folder = stacks.OUTPUT / f"store-scale-{options.store}"
    if not progress.goes_on:
        shutil.rmtree(folder, ignore_errors=True)
    port = Ports.free().encoder
    address = f"127.0.0.1:{port}"
    stub = ["benchmarks.stub_encoder", str(port), str(pixmaps.SIZE)]
    server = MilvusServer(folder) if options.store == "milvus" else MilvusLite(folder)
    with contextlib.ExitStack() as running:
        server.start()
        running.callback(server.stop)
        store = MilvusStore(server.uri)
        await store.ready(deadline=Deadline(_START_S))
        running.enter_context(stacks.running_process(stub, address))
        environment = {"INDEXER_ENCODER": address, "QUERY_ENCODER": address}
        stack = running.enter_context(stacks.running_stack(server.uri, "demo", environment))
        generator = running.enter_context(
            Generator(address, stack.query, LARGE, seed=3, milvus_uri=server.uri)
        )
        milvus = connect(server.uri)
        try:
            async with AsyncClient(stack.query, stack.indexer, timeout_s=60) as client:
                pid, indexer = stack.processes["query"].pid, stack.processes["indexer"].pid
                indexer_metrics = f"127.0.0.1:{stack.options.ports.indexer_metrics}"
                yield Stage(
                    *(options, server, store, milvus, client, generator, pid),
                    *(stack.indexer, indexer_metrics, indexer),
                )
        finally:
            milvus.close()
            await store.close()


def main() -> int:
    """Runs the benchmark; 0 also where bars are missed: the table says so."""
    options = _options()
    stacks.end_on_sigterm()
    if options.store == "milvus" and not has_milvus_server():
        raise SystemExit("there is no Milvus server here: run `make milvus-server`, or STORE=lite")
    path = stacks.OUTPUT / f"scale-{options.store}.state.json"
    if options.fresh:
        path.unlink(missing_ok=True)
    kept = {name: value for name, value in vars(options).items() if name not in ("fresh", "only")}
    progress = Progress(path, kept, list(STEPS))
    if progress.goes_on:
        say(f"Going on behind {len(progress.seconds)} of {len(STEPS)} steps; --fresh begins anew.")
    command = f"make bench-scale STORE={options.store} ROWS={options.rows}"
    report = Report(f"scale-{options.store}", command, machine.describe())
    asyncio.run(run(options, progress, report))
    print(report.table())
    if all(progress.is_done(step) for step in STEPS):
        progress.forget()
        shutil.rmtree(stacks.OUTPUT / f"store-scale-{options.store}", ignore_errors=True)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--store", choices=stacks.STORES, default="milvus")
    parser.add_argument("--rows", type=int, default=200_000, help="whole tens of thousands")
    parser.add_argument("--only", choices=STEPS, nargs="+", help="those steps of what is left")
    parser.add_argument("--fresh", action="store_true", help="forget an interrupted run")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each load")
    parser.add_argument("--rounds", type=int, default=3, help="of what is compared in turn")
    parser.add_argument("--queries", type=int, default=200, help="of which recall is measured")
    parser.add_argument("--pictures", type=int, default=10_000, help="indexed again unchanged")
    parser.add_argument(
        "--transfer-rows", type=int, default=50_000, help="imported in each round, at least"
    )
    parser.add_argument("--kind-rows", type=int, default=50_000, help="of each kind of index")
    parser.add_argument(
        "--max-wait-s", type=float, default=300.0, help="for an index, and for merged segments"
    )
    options = parser.parse_args()
    options.rows = max(options.rows // world.BLOCK_ROWS, 1) * world.BLOCK_ROWS
    options.kind_rows = min(options.kind_rows, options.rows)
    transferred = min(options.transfer_rows, options.rows) // world.BLOCK_ROWS
    options.transfer_rows = max(transferred, 1) * world.BLOCK_ROWS
    return options


if __name__ == "__main__":
    raise SystemExit(main())
