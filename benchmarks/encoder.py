"""`make bench-encoder`: images and texts per second in the shape of ViT-B/32, beside the tutorial.

What can be measured without a process is measured in this one; the rest through gRPC, from a load
generator on the same machine.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import machine, stacks
from benchmarks.generator import Generator, Job
from benchmarks.report import Bar, Figure, Report, Spread, alternate
from benchmarks.texts import new_texts
from benchmarks.tutorial import Tutorial
from benchmarks.weights import random_vit_b_32
from glimpse.cli.console import say
from glimpse.cli.ports import Ports
from services.encoder import checkpoint
from services.encoder.hardware import RequestedPrecision, cpu_has_bf16
from services.encoder.model import Model

# Of ViT-B/32's image tower, for one image.
GFLOP_PER_IMAGE = 8.7

_BATCH = 16  # the encoder's own on a CPU
_CALLERS = 64
_CALL_IMAGES, _IMAGE_CALLERS = 32, 4  # as the indexer calls it
_NO_INT8 = "the encoder has no int8"


class InProcess:
    """Rates of the model itself, without a server around it."""

    def __init__(self, weights: Path, seconds: float, precision: RequestedPrecision) -> None:
        self.model = Model(checkpoint.read(weights, "random"), "cpu", precision)
        self._seconds = seconds
        self._pixels = np.random.default_rng(0).integers(
            0, 256, (_BATCH, 224, 224, 3), dtype=np.uint8
        )
        self._texts = new_texts(seed=6)
        self.images_per_s()
        self.texts_per_s()

    def images_per_s(self) -> float:
        return _BATCH * rate(lambda: self.model.encode_pixels(self._pixels), self._seconds)

    def texts_per_s(self) -> float:
        """One at a time, its tokens included, as a single caller would have it."""
        return rate(lambda: self.model.encode_texts([next(self._texts)]), self._seconds)


def rate(action: Callable[[], object], seconds: float) -> float:
    """Actions per second."""
    started_s = time.perf_counter()
    for count in itertools.count(1):
        action()
        spent_s = time.perf_counter() - started_s
        if spent_s >= seconds:
            return count / spent_s
    raise AssertionError("count never ends")


def measure(options: argparse.Namespace, weights: Path, gflops_bf16: float | None) -> Report:
    """All figures but those that the machine has no instructions for."""
    report = Report("encoder", "make bench-encoder", {}, has_bars=cpu_has_bf16())
    say("In this process ...")
    tutorial = Tutorial(weights)
    files = itertools.cycle(stacks.picture_files(options.images, options.pictures))
    texts = new_texts(seed=7)
    ours = InProcess(weights, options.seconds, "auto")
    image_rates, image_baseline, text_rates, text_baseline = alternate(
        options.rounds,
        ours.images_per_s,
        lambda: rate(lambda: tutorial.encode_image(next(files)), options.seconds),
        ours.texts_per_s,
        lambda: rate(lambda: tutorial.encode_text(next(texts)), options.seconds),
    )
    report.figures += [
        Figure.ratio(
            "image.ratio_vs_tutorial",
            f"images/s from pixels in batches, {ours.model.precision} ÷ tutorial's loop",
            image_rates,
            image_baseline,
            Bar("at least", 9),
        ),
        _share_of_limit(ours.model.precision, image_rates, gflops_bf16),
        Figure("image.int8_ratio", "int8 images/s ÷ bf16", None, reason=_NO_INT8),
        Figure("image.int8_neighbours", "neighbours kept by int8", None, reason=_NO_INT8),
        Figure.ratio(
            "text.ratio_single",
            f"texts/s one at a time, {ours.model.precision} ÷ tutorial's encode_text",
            text_rates,
            text_baseline,
            Bar("at least", 9),
        ),
    ]
    report.details = {
        "precision": ours.model.precision,
        "images_per_s": image_rates,
        "tutorial_images_per_s": image_baseline,
        "texts_per_s": text_rates,
        "tutorial_texts_per_s": text_baseline,
    }
    say("Through gRPC ...")
    _measure_served(options, weights, ours, tutorial, report)
    return report


def _share_of_limit(precision: str, images_per_s: list[float], gflops_bf16: float | None) -> Figure:
    key = "image.share_of_limit"
    meaning = f"bf16 images/s × {GFLOP_PER_IMAGE} GFLOP ÷ measured bf16 matrix-product rate"
    if gflops_bf16 is None or precision != "bf16":
        return Figure(key, meaning, None, reason="the processor has no bf16 instructions")
    share = Spread.of([each * GFLOP_PER_IMAGE / gflops_bf16 for each in images_per_s])
    return Figure(key, meaning, share.median, Bar("at least", 0.80), share)


def _measure_served(
    options: argparse.Namespace,
    weights: Path,
    in_process: InProcess,
    tutorial: Tutorial,
    report: Report,
) -> None:
    ports = Ports.free()
    address = f"127.0.0.1:{ports.encoder}"
    environment = {
        "ENCODER_LISTEN": address,
        "ENCODER_METRICS_LISTEN": f"127.0.0.1:{ports.encoder_metrics}",
        "ENCODER_MODEL": str(weights),
        "ENCODER_LOG_LEVEL": "WARNING",
    }
    texts = new_texts(seed=8)
    images = Job("encode_pixels", options.seconds, callers=_IMAGE_CALLERS, size=_CALL_IMAGES)
    concurrent = Job("encode_texts", options.seconds, callers=_CALLERS)
    with (
        stacks.running_process(["services.encoder"], address, environment) as (pid, start_s),
        Generator(address, seed=9) as generator,
        Generator(address, seed=10) as background,
    ):
        served_texts, baseline, served_images, image_rates = alternate(
            options.rounds,
            lambda: generator.run(concurrent).whole().per_s,
            lambda: rate(lambda: tutorial.encode_text(next(texts)), options.seconds),
            lambda: generator.run(images).whole().per_s * _CALL_IMAGES,
            in_process.images_per_s,
        )
        single = Job("encode_texts", options.mixed_seconds)
        idle = generator.run(single).whole()
        background.start(Job(**{**vars(images), "seconds": options.mixed_seconds}))
        busy = generator.run(single).whole()
        images_meanwhile_per_s = background.finish().whole().per_s * _CALL_IMAGES
        peak_mb = stacks.peak_rss_mb(pid)
    share_kept = images_meanwhile_per_s / statistics.median(served_images)
    report.details |= {
        "grpc_texts_per_s": served_texts,
        "grpc_images_per_s": served_images,
        "text_idle": idle.summary(),
        "text_under_ingest": busy.summary(),
        "images_per_s_beside_texts": images_meanwhile_per_s,
        "share_of_images_kept_beside_texts": share_kept,
    }
    report.figures += [
        Figure.ratio(
            "text.ratio_concurrent_grpc",
            f"texts/s, {_CALLERS} callers through gRPC ÷ tutorial's encode_text",
            served_texts,
            baseline,
            Bar("at least", 20),
        ),
        Figure.ratio(
            "image.grpc_share",
            "images/s through gRPC as pixels ÷ images/s in process",
            served_images,
            image_rates,
            Bar("at least", 0.95),
        ),
        Figure(
            "text.p99_under_ingest",
            "p99 of single texts while images stream in ÷ p99 idle; images/s then fall to "
            f"{share_kept:.0%} (at least 85% wanted)",
            busy.ms(0.99) / idle.ms(0.99),
            Bar("at most", 4),
        ),
        Figure("start_s", "seconds from process start to SERVING", start_s),
        Figure("rss_mb", "peak resident memory of the encoder, in 10^6 bytes", peak_mb),
    ]


def main() -> int:
    """Runs the benchmark; 0 also where bars are missed: the table says so."""
    options = _options()
    stacks.end_on_sigterm()
    weights = random_vit_b_32(stacks.OUTPUT)
    described = machine.describe()
    report = measure(options, weights, described["gflops_bf16"])
    report.machine = described
    report.details["options"] = dict(sorted(vars(options).items()))
    report.write(stacks.OUTPUT / "encoder.json")
    print(report.table())
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encoder", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each single rate")
    parser.add_argument("--mixed-seconds", type=float, default=20.0, help="of texts beside images")
    parser.add_argument("--images", default="", help="a folder; without it, pictures are drawn")
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it works")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.pictures = 1, 1.0, 10
        options.mixed_seconds = 2.0
    return options


if __name__ == "__main__":
    raise SystemExit(main())
