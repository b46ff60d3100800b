"""`make bench-search`: searches per second and their latencies, beside the tutorial's loop.

Everything runs on one machine: a Milvus with 20,000 clustered vectors, encoder, indexer, query, and
the load generator. The tutorial's loop searches the same vectors in a collection of its own. Beside
each load stands what a call of it took of the processors, by process.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from pathlib import Path

import numpy as np

from benchmarks import machine, overload, stacks, vectors
from benchmarks.cpu_time import Usage
from benchmarks.generator import Generator, Job
from benchmarks.load import Answers
from benchmarks.report import Bar, Figure, Report, Spread
from benchmarks.texts import new_texts
from benchmarks.tutorial import Tutorial
from benchmarks.weights import random_vit_b_32
from glimpse.cli.console import say
from glimpse.cli.local.stack import Stack
from glimpse.client import Client

_COLLECTION = "bench"
_INGESTED = "bench_ingested"
_DIMENSION = 512
_POPULAR_TEXTS = 1_000
_BATCH = 64
_RECALL_QUERIES = 200
_PARTS = ("rounds", "recall", "ingest", "overload")
_MAX_REFUSAL_MS = 50.0
_WARM_UP_S = 2.0
_SLACK_MS = 50.0  # between the service's end of a call at its deadline and the caller's clock


class SearchBenchmark:
    """The measurements, each a method; they share the stack, the generator and the tutorial."""

    def __init__(
        self,
        options: argparse.Namespace,
        stack: Stack,
        milvus_pid: int,
        generator: Generator,
        tutorial: Tutorial,
    ) -> None:
        self.options = options
        self.stack = stack
        self.generator = generator
        self.tutorial = tutorial
        self.figures: list[Figure] = []
        self.details: dict[str, object] = {}
        self._texts = new_texts(seed=2)
        self._pids = {name: process.pid for name, process in stack.processes.items()}
        self._pids |= {"milvus": milvus_pid, "generator": generator.pid}

    def run(self, stored: np.ndarray) -> None:
        parts = self.options.only or _PARTS
        if "rounds" in parts:
            say("Searching, ours and the tutorial's in turn ...")
            self._measure_rounds()
        if "recall" in parts:
            self._measure_recall(stored)
        if "ingest" in parts:
            say("Searching while images are indexed ...")
            self._measure_under_ingest()
        if "overload" in parts:
            say("Searching at twice the capacity ...")
            self._measure_overload()

    def _load(self, job: Job) -> tuple[Answers, dict[str, object]]:
        """The answers, and their summary with what a call took of the processors, in ms."""
        before = Usage.now(self._pids)
        answers = self.generator.run(job)
        usage = before.until(Usage.now(self._pids), sum(map(len, answers.latencies_ms.values())))
        return answers, answers.summary() | {"processor_ms_per_call": usage}

    def _measure_rounds(self) -> None:
        """Ours and the tutorial's in turn, so that the machine's moods hit both."""
        seconds = self.options.seconds
        jobs = {
            "one_caller": Job("search", seconds),
            "callers_8": Job("search", seconds, callers=8),
            "callers_32": Job("search", seconds, callers=32),
            "callers_32_repeated": Job("search", seconds, callers=32, popular=_POPULAR_TEXTS),
        }
        rounds: dict[str, list[Answers]] = {name: [] for name in ("tutorial", *jobs)}
        summaries: dict[str, list[dict[str, object]]] = {name: [] for name in rounds}
        batch_s, singles_s = [], []
        for _ in range(self.options.rounds):
            rounds["tutorial"].append(self._tutorial_round(seconds))
            summaries["tutorial"].append(rounds["tutorial"][-1].summary())
            for name, job in jobs.items():
                answers, summary = self._load(job)
                rounds[name].append(answers.whole())
                summaries[name].append(summary)
            batch = self.generator.run(Job("batch_search", 0, size=_BATCH, max_calls=2))
            batch_s.append(statistics.median(batch.whole().ok) / 1000)
            singles = self.generator.run(Job("search", 0, max_calls=_BATCH))
            singles_s.append(singles.whole().seconds)
        self.details["rounds"] = summaries
        self.details["batch"] = {"batch_s": batch_s, "singles_s": singles_s, "size": _BATCH}
        rates = {name: [answers.per_s for answers in each] for name, each in rounds.items()}
        tails = [answers.ms(0.99) / answers.ms(0.5) for answers in rounds["callers_8"]]
        tail = Spread.of(tails)
        self.figures += [
            Figure.ratio(
                "ratio_vs_tutorial",
                "searches/s, 32 callers, all texts new ÷ tutorial's loop",
                rates["callers_32"],
                rates["tutorial"],
                Bar("at least", 16),
            ),
            Figure.ratio(
                "p50_ratio",
                "p50 at one caller ÷ tutorial's p50",
                [answers.ms(0.5) for answers in rounds["one_caller"]],
                [answers.ms(0.5) for answers in rounds["tutorial"]],
                Bar("at most", 0.30),
            ),
            Figure.ratio(
                "cached_qps_ratio",
                f"searches/s, 32 callers, {_POPULAR_TEXTS:,} texts (Zipf) ÷ all texts new",
                rates["callers_32_repeated"],
                rates["callers_32"],
                Bar("at least", 1.5),
            ),
            Figure("tail", "p99 ÷ p50 at 8 callers", tail.median, Bar("at most", 3), tail),
            Figure.ratio(
                "batch_ratio",
                f"time of a BatchSearch of {_BATCH} ÷ {_BATCH} searches one by one",
                batch_s,
                singles_s,
                Bar("at most", 0.35),
            ),
        ]

    def _tutorial_round(self, seconds: float) -> Answers:
        answers = Answers(0.0)
        started_s = ended_s = time.perf_counter()
        while ended_s - started_s < seconds:
            call_started_s = time.perf_counter()
            self.tutorial.search(next(self._texts))
            ended_s = time.perf_counter()
            answers.add("OK", (ended_s - call_started_s) * 1000)
        answers.seconds = ended_s - started_s
        return answers

    def _measure_recall(self, stored: np.ndarray) -> None:
        queries = vectors.clustered(_RECALL_QUERIES, _DIMENSION, seed=99)
        expected = vectors.exact_neighbours(stored, queries, 10)
        with Client(self.stack.query) as client:
            found = [
                {int(hit.id) for hit in client.search(_COLLECTION, vector=query.tolist()).hits}
                for query in queries
            ]
        recalls = [len(f & e) / 10 for f, e in zip(found, expected, strict=True)]
        self.figures.append(
            Figure(
                "recall_at_10",
                f"first 10 through the index that are the exact first 10, {len(queries)} queries",
                statistics.mean(recalls),
                Bar("at least", 0.98),
            )
        )

    def _measure_under_ingest(self) -> None:
        job = Job("search", self.options.ingest_seconds)
        idle, idle_summary = self._load(job)
        files = stacks.picture_files(self.options.images, self.options.pictures)
        with Client(self.stack.query, self.stack.indexer, timeout_s=60) as client:
            with stacks.Ingesting(client, _INGESTED, files) as ingesting:
                busy, busy_summary = self._load(job)
                images_per_s = ingesting.images_per_s
            # Or Milvus would go on with what was written while the next load is measured.
            client.drop_collection(_INGESTED)
        stacks.wait_until_idle()
        self.details["under_ingest"] = {
            "idle": idle_summary,
            "busy": busy_summary,
            "images_per_s": round(images_per_s, 2),
        }
        self.figures.append(
            Figure(
                "p99_under_ingest",
                "p99 at one caller while the indexer ingests at full rate ÷ p99 idle",
                busy.whole().ms(0.99) / idle.whole().ms(0.99),
                Bar("at most", 8),
            )
        )

    def _measure_overload(self) -> None:
        options, summaries = self.options, []

        def load(job: Job) -> Answers:
            answers, summary = self._load(job)
            summaries.append(summary)
            return answers

        found = overload.measure(
            load, options.seconds, options.overload_seconds, options.deadline_s
        )
        self.details["overload"] = summaries[-1] | found.record()
        holds = (
            bool(found.answers.ok)
            and found.accepted_p99_ms <= found.deadline_s * 1000 + _SLACK_MS
            and found.refusal_p99_ms <= _MAX_REFUSAL_MS
            and not found.lost
        )
        meaning = (
            f"at twice the capacity: accepted p99 < {found.deadline_s:g} s, "
            f"RESOURCE_EXHAUSTED p99 ≤ {_MAX_REFUSAL_MS:g} ms, none hang"
        )
        self.figures.append(Figure("overload", meaning, holds))


def main() -> int:
    """Runs the benchmark; 0 also where bars are missed: the table says so."""
    options = _options()
    stacks.end_on_sigterm()
    weights = random_vit_b_32(stacks.OUTPUT)
    report = Report(
        f"search-{options.store}", f"make bench-search STORE={options.store}", machine.describe()
    )
    stored = vectors.clustered(options.rows, _DIMENSION, seed=1)
    with (
        stacks.store_process(options.store) as store,
        stacks.running_stack(store.uri, weights) as stack,
        Generator(stack.addresses["encoder"], stack.query, _COLLECTION, seed=3) as generator,
    ):
        with Client(stack.query, stack.indexer, timeout_s=60) as client:
            client.create_collection(_COLLECTION)
        say(f"Inserting {len(stored):,} vectors, for us and for the tutorial's loop ...")
        vectors.insert(store.uri, _COLLECTION, stored)
        tutorial = Tutorial(weights, store.uri)
        tutorial.create_collection()
        tutorial.fill(stored)
        for text in itertools.islice(new_texts(seed=4), 5):
            tutorial.search(text)
        if options.store == "milvus":
            stacks.compact(store.uri, [_COLLECTION, tutorial.collection])
        generator.run(Job("search", _WARM_UP_S, callers=8)).whole()
        stacks.wait_until_idle()
        benchmark = SearchBenchmark(options, stack, store.pid, generator, tutorial)
        benchmark.run(stored)
    report.figures = benchmark.figures
    report.details = benchmark.details | {"options": _recorded(options)}
    report.write(_path(options.store))
    print(report.table())
    return 0


def _path(store: str) -> Path:
    return stacks.OUTPUT / ("search.json" if store == "milvus" else f"search-{store}.json")


def _recorded(options: argparse.Namespace) -> dict[str, object]:
    return dict(sorted(vars(options).items()))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    parser.add_argument("--store", choices=stacks.STORES, default="milvus")
    parser.add_argument(
        "--only", choices=_PARTS, nargs="+", help="those parts; without it, all of them"
    )
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each load in a round")
    parser.add_argument("--ingest-seconds", type=float, default=20.0)
    parser.add_argument("--overload-seconds", type=float, default=8.0)
    parser.add_argument("--deadline-s", type=float, default=1.0, help="of calls under overload")
    parser.add_argument("--images", default="", help="a folder; without it, pictures are drawn")
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it works")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.rounds, options.seconds, options.pictures = 2_000, 1, 1.0, 10
        options.ingest_seconds = options.overload_seconds = 2.0
    return options


if __name__ == "__main__":
    raise SystemExit(main())
