"""`make bench-scale`: a large collection in a real server, measured in steps; see --help.

Takes up where an interrupted run over as many rows has stopped. Writes build/bench/scale.json and
scale.png, after each step what is known by then, and both once more under the number of rows.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import traceback
from typing import Any, NamedTuple

from benchmarks import machine, stacks
from benchmarks.report import Report
from benchmarks.scale import figures, room, world
from benchmarks.scale.charts import charts
from benchmarks.scale.kinds import Kinds
from benchmarks.scale.plots import page
from benchmarks.scale.progress import Progress
from benchmarks.scale.stage import LARGE, SMALL, Stage, running
from benchmarks.scale.steps import Steps
from glimpse.cli.console import say
from services.common.deadline import Deadline
from tests.backends import has_milvus_server


class Step(NamedTuple):
    """What it is, and about how long it takes: of itself, and for a million rows, on 2 cores."""

    what: str
    base_s: float
    per_million_s: float


STEPS = {
    "small": Step("A collection of 20,000 rows to compare with", 60, 0),
    "fill": Step("Rows into the collection, while it is searched", 10, 780),
    "build": Step("Searches until every row is found through the index", 10, 200),
    "compact": Step("Searches while Milvus merges segments", 30, 1_500),
    "searches": Step("1, 8 and 32 callers, with and without filters", 120, 40),
    "pages": Step("Pages up to the deepest", 15, 30),
    "recall": Step("Recall against exact neighbours", 30, 150),
    "streaming": Step("Searches while rows stream in", 10, 5),
    "rerun": Step("Unchanged pictures once more", 60, 60),
    "catalog": Step("Describing and counting", 5, 5),
    "transfer": Step("Export and import of a collection", 600, 700),
    "upsert": Step("1% of the rows once more", 5, 10),
    "delete": Step("Deleting 1% by a filter", 5, 5),
    "restart": Step("Restarting the server", 30, 120),
    "kinds": Step("Kinds of index side by side", 60, 6_000),
}
_NEEDED = ("small", "fill")  # by all others
_ATTEMPTS = 2
_COUNT_S = 180.0


async def run(options: argparse.Namespace, progress: Progress, report: Report) -> list[str]:
    """All steps that are left; the report is written after each of them. Returns those that failed
    twice."""
    asked = [step for step in STEPS if not options.only or step in options.only]
    failed: list[str] = []
    async with running(options, goes_on=progress.goes_on) as stage:
        steps = Steps(stage, progress.results, lambda partial: _keep(progress, partial))
        for step in asked:
            if progress.is_done(step):
                continue
            began_s = progress.begin(step, STEPS[step].what, asked)
            found = await _tried(step, steps, stage)
            if found is None:
                failed.append(step)
                if step in _NEEDED:
                    break
                continue
            progress.results.setdefault("memory", {})[step] = await _memory(stage)
            progress.end(step, began_s, found)
            _write(options, progress, report)
    return failed


async def _tried(step: str, steps: Steps, stage: Stage) -> dict[str, Any] | None:
    """What the step has found; None where it failed as often as it is tried: nobody is there who
    would begin an hour's work again."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            if step == "kinds":
                return await asyncio.to_thread(Kinds(stage).measure)
            found: dict[str, Any] = await getattr(steps, step)()
        except Exception:
            traceback.print_exc()
            say(f"    {step} failed, {attempt} of {_ATTEMPTS} attempts")
        else:
            return found
    return None


def _keep(progress: Progress, partial: dict[str, Any]) -> None:
    progress.results |= partial
    progress.keep()


async def _memory(stage: Stage) -> dict[str, float]:
    """What the server holds now, in memory and on the disk, and what docs/sizing.md says of that
    many rows."""
    there = await stage.store.list_collections(deadline=Deadline(_COUNT_S))
    rows = 0
    for name in (SMALL, LARGE):
        if name in there:
            rows += await stage.store.count(name, deadline=Deadline(_COUNT_S))
    disk_mb = round(await asyncio.to_thread(room.size_bytes, stage.server.directory) / 1e6, 1)
    memory = {"rss_mb": stage.rss_mb(), "rows": rows, "sizing_mb": figures.sizing_mb(rows)}
    return memory | {"disk_mb": disk_mb}


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


def main() -> int:
    """Runs the benchmark; 0 also where bars are missed: the table says so. 1 where a step failed,
    or is left."""
    options = _options()
    stacks.end_on_sigterm()
    if options.store == "milvus" and not has_milvus_server():
        raise SystemExit("there is no Milvus server here: run `make milvus-server`, or STORE=lite")
    path = stacks.OUTPUT / f"scale-{options.store}.state.json"
    folder = stacks.OUTPUT / f"store-scale-{options.store}"
    progress = _progress(options)
    if progress.goes_on:
        done = len(progress.seconds)
        say(f"Going on behind {done} of {len(STEPS)} steps; --fresh begins anew.")
    else:
        path.unlink(missing_ok=True)
    room.check(folder, room.needed_bytes(options.rows, options.kind_rows, options.transfer_rows))
    command = f"make bench-scale STORE={options.store} ROWS={options.rows}"
    report = Report(f"scale-{options.store}", command, machine.describe())
    if progress.goes_on:
        _write(options, progress, report)
    failed: list[str] = []
    try:
        failed = asyncio.run(run(options, progress, report))
        print(report.table())
    finally:
        left = [step for step in STEPS if not progress.is_done(step)]
        if not left and not options.keep:
            progress.forget()
            shutil.rmtree(folder, ignore_errors=True)
        else:
            size_gb = room.size_bytes(folder) / 1e9
            say(f"Left: {', '.join(left) or 'nothing'}. {size_gb:.1f} GB are kept in {folder}:")
            say("the command goes on there, unless --fresh has it begin anew and delete them.")
    if failed:
        say(f"Failed, see above: {', '.join(failed)}.")
    return 1 if failed else 0


def _progress(options: argparse.Namespace) -> Progress:
    """Raises SystemExit where the store holds what another run has not come to the end of."""
    path = stacks.OUTPUT / f"scale-{options.store}.state.json"
    if options.fresh:
        path.unlink(missing_ok=True)
    rows_of = {"store": options.store, "rows": options.rows, "pictures": options.pictures}
    progress = Progress(path, rows_of, {step: _expected_s(step, options) for step in STEPS})
    if progress.others is not None:
        raise SystemExit(
            f"{path} is of an interrupted run over {progress.others}: go on with that one, "
            "or delete what it has by --fresh"
        )
    progress.repeat(options.again or ())
    return progress


def _expected_s(step: str, options: argparse.Namespace) -> float:
    rows = options.kind_rows if step == "kinds" else options.rows
    _, base_s, per_million_s = STEPS[step]
    return base_s + per_million_s * rows / 1e6


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--store", choices=stacks.STORES, default="milvus")
    parser.add_argument("--rows", type=int, default=200_000, help="whole tens of thousands")
    parser.add_argument("--only", choices=STEPS, nargs="+", help="those steps of what is left")
    parser.add_argument("--again", choices=STEPS, nargs="+", help="those steps, though done before")
    parser.add_argument("--fresh", action="store_true", help="forget an interrupted run")
    parser.add_argument("--keep", action="store_true", help="the store's files, also at the end")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each load")
    parser.add_argument("--rounds", type=int, default=3, help="of what is compared in turn")
    parser.add_argument("--queries", type=int, default=200, help="of which recall is measured")
    parser.add_argument("--pictures", type=int, default=10_000, help="indexed again unchanged")
    parser.add_argument(
        "--transfer-rows", type=int, default=50_000, help="imported in each round, at least"
    )
    parser.add_argument("--kind-rows", type=int, default=50_000, help="of each kind of index")
    parser.add_argument(
        "--max-wait-s",
        type=float,
        help="for an index, and for merged segments; by default 300 s, or an hour for a million",
    )
    options = parser.parse_args()
    options.rows = max(options.rows // world.BLOCK_ROWS, 1) * world.BLOCK_ROWS
    options.kind_rows = min(options.kind_rows, options.rows)
    options.max_wait_s = options.max_wait_s or max(300.0, 3_600 * options.rows / 1e6)
    transferred = min(options.transfer_rows, options.rows) // world.BLOCK_ROWS
    options.transfer_rows = max(transferred, 1) * world.BLOCK_ROWS
    return options


if __name__ == "__main__":
    raise SystemExit(main())
