"""`make bench-ingest`: pictures per second from file to stored row, beside the tutorial's loop.

First the whole stack with a model in the shape of ViT-B/32; then what the indexer alone can write,
beside pymilvus; then its memory, as a process between an encoder that costs nothing and the store.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine, pixmaps, stacks
from benchmarks.generator import Generator, Job
from benchmarks.report import Bar, Figure, Report, Spread
from benchmarks.rows import RowsBenchmark
from benchmarks.tutorial import Tutorial
from benchmarks.weights import random_vit_b_32
from benchmarks.writing import WritingBenchmark, ingested_per_s
from glimpse.cli.console import say
from glimpse.cli.ports import Ports
from glimpse.client import Client
from glimpse.pictures.preprocess import decode
from glimpse.pictures.preprocessing import Preprocessing
from glimpse.results import ImageFile, Outcome
from services.common.cpus import usable_cpus

_PARTS = ["speed", "rows", "memory"]
_COLLECTION = "bench"
_PREPROCESSING = Preprocessing(224)
_MAX_PIXELS = 50_000_000
_ENCODE_BATCH, _ENCODE_CALLS = 32, 4  # the indexer's own defaults


class IngestBenchmark:
    """The measurements on the whole stack; each returns figures."""

    def __init__(self, options: argparse.Namespace, files: Sequence[Path], client: Client) -> None:
        self.files = files
        self.options = options
        self.client = client
        self.details: dict[str, object] = {}
        self._round = 0

    def end_to_end(self, generator: Generator, tutorial: Tutorial) -> list[Figure]:
        """Rates in turn: encoder from pixels, decoding, ours, the tutorial's, ours once more."""
        shares, ratios, reruns, rounds = [], [], [], []
        for _ in range(self.options.rounds):
            encoder_per_s = self._encoder_per_s(generator)
            decode_s = self._decode_s()
            ours_per_s = self._ours_per_s()
            tutorial_per_s = self._tutorial_per_s(tutorial)
            rerun_per_s = self._rerun_per_s()
            best_per_s = 1 / (1 / encoder_per_s + decode_s / usable_cpus())
            shares.append(ours_per_s / best_per_s)
            ratios.append(ours_per_s / tutorial_per_s)
            reruns.append(rerun_per_s / ours_per_s)
            rounds.append(
                {
                    "encoder_per_s": round(encoder_per_s, 2),
                    "decode_ms": round(decode_s * 1000, 3),
                    "best_per_s": round(best_per_s, 2),
                    "ours_per_s": round(ours_per_s, 2),
                    "tutorial_per_s": round(tutorial_per_s, 2),
                    "rerun_per_s": round(rerun_per_s, 1),
                }
            )
        self.details["rounds"] = rounds
        share, ratio, rerun = Spread.of(shares), Spread.of(ratios), Spread.of(reruns)
        return [
            Figure(
                "share_of_encoder",
                "images/s × (1 ÷ encoder's images/s + decode s ÷ cores)",
                share.median,
                Bar("at least", 0.85),
                share,
            ),
            Figure(
                "ratio_vs_tutorial",
                "images/s end to end ÷ tutorial's loop with its single insert",
                ratio.median,
                Bar("at least", 7),
                ratio,
            ),
            Figure(
                "rerun_ratio",
                "images/s of a second run over unchanged images ÷ the first run's",
                rerun.median,
                Bar("at least", 20),
                rerun,
            ),
        ]

    def _encoder_per_s(self, generator: Generator) -> float:
        job = Job("encode_pixels", self.options.seconds, callers=_ENCODE_CALLS, size=_ENCODE_BATCH)
        return generator.run(job).per_s * _ENCODE_BATCH

    def _decode_s(self) -> float:
        """Of one picture, on one core."""
        contents = [path.read_bytes() for path in self.files]
        started_s = time.perf_counter()
        for content in contents:
            decode(content, _PREPROCESSING, _MAX_PIXELS)
        return (time.perf_counter() - started_s) / len(contents)

    def _ours_per_s(self) -> float:
        self._round += 1
        return ingested_per_s(self.client, self._images(), Outcome.INDEXED, _COLLECTION)

    def _rerun_per_s(self) -> float:
        return ingested_per_s(self.client, self._images(), Outcome.UNCHANGED, _COLLECTION)

    def _images(self) -> list[ImageFile]:
        return [
            ImageFile(path=path, id=f"round{self._round}/{number}")
            for number, path in enumerate(self.files)
        ]

    def _tutorial_per_s(self, tutorial: Tutorial) -> float:
        files = itertools.cycle(self.files)
        started_s = time.perf_counter()
        for count in itertools.count(1):
            tutorial.insert(next(files))
            seconds = time.perf_counter() - started_s
            if seconds > self.options.seconds:
                return count / seconds
        raise AssertionError("count never ends")


def main() -> int:
    """Runs the benchmark; 0 also where bars are missed: the table says so."""
    options = _options()
    stacks.end_on_sigterm()
    weights = random_vit_b_32(stacks.OUTPUT)
    report = Report(
        f"ingest-{options.store}", f"make bench-ingest STORE={options.store}", machine.describe()
    )
    with stacks.running_store(options.store) as uri:
        if "speed" in options.parts:
            _measure_whole(report, options, weights, uri)
        if "rows" in options.parts:
            say("The indexer's pipeline in this process ...")
            rows = RowsBenchmark(uri, options.rows, options.rounds)
            report.figures += rows.measure()
            report.details |= rows.details
        if "memory" in options.parts:
            _measure_memory(report, options, weights, uri)
    report.details["options"] = dict(sorted(vars(options).items()))
    name = "ingest.json" if options.store == "milvus" else f"ingest-{options.store}.json"
    report.write(stacks.OUTPUT / name)
    print(report.table())
    return 0


def _measure_whole(report: Report, options: argparse.Namespace, weights: Path, uri: str) -> None:
    say("The whole stack ...")
    files = stacks.picture_files(options.images, options.pictures)
    with (
        stacks.running_stack(uri, weights) as stack,
        Generator(stack.addresses["encoder"]) as generator,
        Client(stack.query, stack.indexer, timeout_s=60) as client,
    ):
        tutorial = Tutorial(weights, uri)
        tutorial.create_collection()
        client.create_collection(_COLLECTION)
        benchmark = IngestBenchmark(options, files, client)
        report.figures += benchmark.end_to_end(generator, tutorial)
    report.details |= benchmark.details


def _measure_memory(report: Report, options: argparse.Namespace, weights: Path, uri: str) -> None:
    say("The indexer between a stub encoder and the store ...")
    port = Ports.free().encoder
    address = f"127.0.0.1:{port}"
    stub = ["benchmarks.stub_encoder", str(port), str(pixmaps.SIZE)]
    with (
        stacks.running_process(stub, address),
        stacks.running_stack(uri, weights, {"INDEXER_ENCODER": address}) as stack,
        Client(stack.query, stack.indexer, timeout_s=60) as client,
    ):
        benchmark = WritingBenchmark(options, stack, client)
        report.figures += benchmark.memory()
    report.details |= benchmark.details


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description=__doc__)
    parser.add_argument("--store", choices=stacks.STORES, default="milvus")
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=_PARTS, help="all by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each single rate")
    parser.add_argument("--images", default="", help="a folder; without it, pictures are drawn")
    parser.add_argument("--pictures", type=int, default=1_200, help="of one run end to end")
    parser.add_argument("--rows", type=int, default=50_000, help="of one run into the store")
    parser.add_argument("--stream", type=int, default=100_000, help="images while memory is read")
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it works")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.pictures = 1, 1.0, 10
        options.rows, options.stream = 500, 1_000
    return options


if __name__ == "__main__":
    raise SystemExit(main())
