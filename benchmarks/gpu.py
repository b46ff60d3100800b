"""`make bench-gpu`: what one GPU encodes, in process and through gRPC, and how busy it is with it.

All in the shape of ViT-B/32 and in the precision that `auto` takes on a GPU. The tutorial's loop
runs on the same GPU, in the fp16 that openai/CLIP's `load` leaves a model in there.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks import machine, stacks
from benchmarks.cpu_time import Usage
from benchmarks.encoder import rate
from benchmarks.generator import Generator, Job
from benchmarks.gpu_watch import GpuWatch, describe, matrix_tflops
from benchmarks.load import Answers
from benchmarks.report import Figure, Report, percentile
from benchmarks.side_by_side import GFLOP_PER_IMAGE
from benchmarks.texts import new_texts
from benchmarks.tutorial import Tutorial
from benchmarks.weights import random_vit_b_32
from glimpse.cli.console import say
from services.encoder import checkpoint
from services.encoder.download import WeightsFile
from services.encoder.model import ClipModel

_IMAGES, _TEXTS = (1, 8, 32, 64, 128, 256, 512), (1, 8, 64, 256)
_CALL_IMAGES, _IMAGE_CALLERS = 32, 4  # as the indexer calls it
_IMAGES_OF_CALLS = Job("encode_pixels", 0, callers=_IMAGE_CALLERS, size=_CALL_IMAGES)
_SERVED = {
    "text, one caller": Job("encode_texts", 0),
    "texts, 64 callers": Job("encode_texts", 0, callers=64),
    "texts, 4 callers, 64 in a call": Job("encode_texts", 0, callers=4, size=64),
    "image as pixels, one caller": Job("encode_pixels", 0),
    "images as pixels, 4 callers, 32 in a call": _IMAGES_OF_CALLS,
    "image as a file, one caller": Job("encode_files", 0),
    "images as files, 4 callers, 32 in a call": replace(_IMAGES_OF_CALLS, what="encode_files"),
}
_PACED_TEXTS = Job("encode_texts", 0, per_s=20.0)  # as people's searches come
_WARM_UP_S = 0.3
_ASKING = 2  # processes that ask an encoder


@dataclass(frozen=True)
class Encoder:
    """A process that serves, and those that ask it: a single one is busy before it is."""

    address: str
    pid: int
    generators: Sequence[Generator]

    def start(self, job: Job) -> Sequence[Generator]:
        """Who has begun with the job; many callers are shared out."""
        asking = self.generators[: min(job.callers, len(self.generators))]
        for generator in asking:
            generator.start(replace(job, callers=job.callers // len(asking)))
        return asking


class Rows:
    """Figures in rows: what was asked for, and in columns what came of it."""

    def __init__(self, report: Report, seconds: float, only: str) -> None:
        self._report = report
        self._seconds = seconds
        self._only = re.compile(only)

    def add(self, row: str, **columns: float) -> None:
        self._report.figures += [
            Figure(f"{row}.{column}", column.replace("_", " "), value)
            for column, value in columns.items()
        ]
        say(f"  {row}: " + ", ".join(f"{name} {value:.4g}" for name, value in columns.items()))

    def add_rate(
        self, row: str, action: Callable[[], object], items: int, limit: float | None = None
    ) -> None:
        """An action of this process, over and over."""
        if not self._only.search(row):
            return
        times_ms: list[float] = []

        def timed() -> None:
            started_s = time.perf_counter()
            action()
            times_ms.append((time.perf_counter() - started_s) * 1000)

        rate(timed, _WARM_UP_S)
        times_ms.clear()
        with GpuWatch() as watch:
            per_s = items * rate(timed, self._seconds)
        shares = {} if limit is None else {"share_of_limit": per_s / limit}
        p50_ms, p99_ms = (percentile(times_ms, share) for share in (0.5, 0.99))
        self.add(row, per_s=per_s, p50_ms=p50_ms, p99_ms=p99_ms, gpu_busy=watch.share, **shares)

    def add_load(self, row: str, job: Job, encoders: Sequence[Encoder]) -> None:
        """A job for each of the encoders, at the same time."""
        if not self._only.search(row):
            return
        pids = {encoder.address: encoder.pid for encoder in encoders}
        with GpuWatch() as watch:
            before, started_s = Usage.now(pids), time.perf_counter()
            job = replace(job, seconds=self._seconds)
            asking = [generator for encoder in encoders for generator in encoder.start(job)]
            answers = [generator.finish().whole() for generator in asking]
            after, spent_s = Usage.now(pids), time.perf_counter() - started_s
        own_s = sum(after.by_process_s.values()) - sum(before.by_process_s.values())
        self.add(
            row,
            **_columns(answers, job.size),
            gpu_busy=watch.share,
            cores_of_an_encoder=own_s / spent_s / len(encoders),
            cores_of_all=(after.machine_s - before.machine_s) / spent_s,
        )
        self._report.details[row] = [each.summary() for each in answers]

    def add_mixed(self, encoder: Encoder, background: Generator) -> None:
        """Single texts at a steady rate, alone and while images stream in."""
        if not self._only.search("the same beside images"):
            return
        paced = replace(_PACED_TEXTS, seconds=2 * self._seconds)
        idle = encoder.generators[0].run(paced).whole()
        with GpuWatch() as watch:
            background.start(replace(_IMAGES_OF_CALLS, seconds=2 * self._seconds))
            busy = encoder.generators[0].run(paced).whole()
            images = background.finish().whole()
        self.add("single texts, 20/s", **_columns([idle], 1))
        self.add("the same beside images", **_columns([busy], 1), gpu_busy=watch.share)
        self.add("those images", **_columns([images], _CALL_IMAGES))


def _columns(answers: Sequence[Answers], items: int) -> dict[str, float]:
    times_ms = [time_ms for each in answers for time_ms in each.ok]
    return {
        "per_s": items * sum(each.per_s for each in answers),
        "p50_ms": percentile(times_ms, 0.5),
        "p99_ms": percentile(times_ms, 0.99),
    }


def measure(options: argparse.Namespace, weights: Path) -> Report:
    """All figures, which have no bars: what a GPU should reach depends on the GPU."""
    described = {**machine.describe(), **describe()}
    report = Report("gpu", "make bench-gpu", described, has_bars=False)
    rows = Rows(report, options.seconds, options.only)
    say("In this process ...")
    _measure_in_process(rows, weights)
    say("Through gRPC ...")
    with (
        _encoders(weights, max(options.encoders), rows) as encoders,
        Generator(encoders[0].address, seed=99) as background,
    ):
        for row, job in _SERVED.items():
            rows.add_load(row, job, encoders[:1])
        rows.add_mixed(encoders[0], background)
        for count in options.encoders:
            for row in ("images as pixels, 4 callers, 32 in a call", "texts, 64 callers"):
                rows.add_load(f"{count} encoders: {row} each", _SERVED[row], encoders[:count])
    return report


def _measure_in_process(rows: Rows, weights: Path) -> None:
    limit = matrix_tflops() * 1000 / GFLOP_PER_IMAGE
    rows.add("images, limit by matrix products", per_s=limit)
    tutorial, texts = Tutorial(weights, device="cuda"), new_texts(seed=7)
    files = itertools.cycle(stacks.picture_files("", 20))
    rows.add_rate("tutorial's loop, pictures", lambda: tutorial.encode_image(next(files)), 1)
    rows.add_rate("tutorial's loop, texts", lambda: tutorial.encode_text(next(texts)), 1)
    read = checkpoint.read(WeightsFile("random", weights), "quick_gelu")
    model = ClipModel(read, "cuda", "auto")
    pixels = np.random.default_rng(0).integers(0, 256, (max(_IMAGES), 224, 224, 3), np.uint8)
    images = list(pixels)
    for count in _IMAGES:
        some = images[:count]
        rows.add_rate(
            f"images in process, batches of {count}",
            lambda some=some: model.encode_pixels(some),
            count,
            limit,
        )
    for count in _TEXTS:
        ids = [model.tokenizer.encode(text).ids for text in itertools.islice(texts, count)]
        rows.add_rate(
            f"texts in process, batches of {count}", lambda ids=ids: model.encode_tokens(ids), count
        )


@contextlib.contextmanager
def _encoders(weights: Path, count: int, rows: Rows) -> Iterator[list[Encoder]]:
    """So many encoders on the one GPU, started at the same time."""
    environment, seeds = {"ENCODER_DEVICE": "cuda"}, itertools.count()
    with contextlib.ExitStack() as stack:
        processes = [stacks.running_encoder(weights, environment) for _ in range(count)]
        with ThreadPoolExecutor(count) as pool:
            started: list[tuple[str, int, float]] = list(pool.map(stack.enter_context, processes))
        encoders = [
            Encoder(address, pid, [Generator(address, seed=next(seeds)) for _ in range(_ASKING)])
            for address, pid, _ in started
        ]
        for generator in (each for encoder in encoders for each in encoder.generators):
            stack.enter_context(generator)
        yield encoders
        rows.add(
            f"{count} encoders, started at once",
            start_s=max(start_s for _, _, start_s in started),
            rss_mb=max(stacks.peak_rss_mb(pid) for _, pid, _ in started),
        )


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each single rate")
    parser.add_argument(
        "--encoders", type=int, nargs="+", default=[2, 4, 8], help="processes on the GPU"
    )
    parser.add_argument("--only", default="", help="rows whose names this pattern is found in")
    options = parser.parse_args()
    stacks.end_on_sigterm()
    report = measure(options, random_vit_b_32(stacks.OUTPUT))
    report.details["options"] = dict(sorted(vars(options).items()))
    report.write(stacks.OUTPUT / "gpu.json")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
