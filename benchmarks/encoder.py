"""`make bench-encoder`: images and texts per second in the shape of ViT-B/32, beside the tutorial.

What can be measured without a process is measured in this one; the rest through gRPC, from a load
generator on the same machine.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from benchmarks import machine, reading, stacks
from benchmarks.generator import Generator, Job
from benchmarks.mixed import Mixed
from benchmarks.recall import neighbours_kept
from benchmarks.report import Bar, Figure, Report, alternate
from benchmarks.side_by_side import GFLOP_PER_IMAGE
from benchmarks.starts import Starts
from benchmarks.texts import new_texts
from benchmarks.tutorial import Tutorial
from benchmarks.weights import random_vit_b_32
from glimpse.cli.console import say
from services.encoder import checkpoint
from services.encoder.download import WeightsFile
from services.encoder.hardware import Precision, choose_precision, cpu_has_bf16
from services.encoder.int8_check import in_int8
from services.encoder.model import ClipModel

_BATCH = 16  # the encoder's own on a CPU
_CALLERS = 64
_CALL_IMAGES, _IMAGE_CALLERS = 32, 4  # as the indexer calls it
_MIN_NEIGHBOURS = 0.98  # that a precision must keep to be compared with the tutorial


class InProcess:
    """Rates of the model itself, without a server around it."""

    def __init__(self, weights: Path, seconds: float, precision: Precision) -> None:
        read = checkpoint.read(WeightsFile("random", weights), "quick_gelu")
        self._text_bytes = 0  # of weights that a text reads; only known in int8
        if precision == "int8":
            made: dict[str, Tensor] = {}
            self.model, _ = in_int8(read, made=made)
            self._text_bytes = reading.text_bytes(read, made)
        else:
            self.model = ClipModel(read, "cpu", precision)
        self._seconds = seconds
        pixels = np.random.default_rng(0).integers(0, 256, (_BATCH, 224, 224, 3), dtype=np.uint8)
        self._pixels = list(pixels)
        self._texts = new_texts(seed=6)
        self.images_per_s()
        self.texts_per_s()

    def images_per_s(self) -> float:
        return _BATCH * rate(lambda: self.model.encode_pixels(self._pixels), self._seconds)

    def texts_per_s(self) -> float:
        """One at a time, its tokens included, as a single caller would have it."""
        return rate(self._encode_text, self._seconds)

    def beside_reading(self, rounds: int) -> list[Figure]:
        """One text, in int8, beside the least that it can take."""
        return reading.figures(rounds, self._seconds, self._encode_text, self._text_bytes)

    def _encode_text(self) -> object:
        return self.model.encode_texts([next(self._texts)])


def rate(action: Callable[[], object], seconds: float) -> float:
    """Actions per second."""
    started_s = time.perf_counter()
    for count in itertools.count(1):
        action()
        spent_s = time.perf_counter() - started_s
        if spent_s >= seconds:
            return count / spent_s
    raise AssertionError("count never ends")


def measure(options: argparse.Namespace, weights: Path) -> Report:
    """All figures but those that the machine has no instructions for."""
    report = Report("encoder", "make bench-encoder", {}, has_bars=cpu_has_bf16())
    say("Neighbours kept, on the bundled model ...")
    kept: dict[Precision, float] = {
        precision: neighbours_kept(precision) for precision in (_floating(), "int8")
    }
    say("In this process ...")
    tutorial = Tutorial(weights)
    ours: dict[Precision, InProcess] = {
        precision: InProcess(weights, options.seconds, precision) for precision in kept
    }
    rates = _rates(options, ours, tutorial)
    fastest: Precision = max(
        (precision for precision in kept if kept[precision] >= _MIN_NEIGHBOURS),
        key=lambda precision: statistics.median(rates[f"{precision}_images_per_s"]),
    )
    report.figures += [
        Figure.ratio(
            "image.ratio_vs_tutorial",
            f"images/s from pixels in batches, {fastest} ÷ tutorial's loop",
            rates[f"{fastest}_images_per_s"],
            rates["tutorial_images_per_s"],
            Bar("at least", 9),
        ),
        *_by_precision(rates, kept),
        Figure.ratio(
            "text.ratio_single",
            f"texts/s one at a time, {fastest} ÷ tutorial's encode_text",
            rates[f"{fastest}_texts_per_s"],
            rates["tutorial_texts_per_s"],
            Bar("at least", 9),
        ),
        *ours["int8"].beside_reading(options.rounds),
    ]
    report.details = {"precision": fastest, "neighbours_kept": kept, **rates}
    say(f"Through gRPC, in {fastest} ...")
    _measure_served(options, weights, ours[fastest], tutorial, report)
    return report


def _floating() -> Precision:
    """What `auto` takes on this CPU."""
    return choose_precision("auto", "cpu")


def _rates(
    options: argparse.Namespace, ours: Mapping[Precision, InProcess], tutorial: Tutorial
) -> dict[str, list[float]]:
    """Images and texts per second of the tutorial and of each precision, taken in turn."""
    files = itertools.cycle(stacks.picture_files(options.images, options.pictures))
    texts = new_texts(seed=7)
    measures = {
        "tutorial_images_per_s": lambda: rate(
            lambda: tutorial.encode_image(next(files)), options.seconds
        ),
        "tutorial_texts_per_s": lambda: rate(
            lambda: tutorial.encode_text(next(texts)), options.seconds
        ),
    }
    for precision, in_process in ours.items():
        measures[f"{precision}_images_per_s"] = in_process.images_per_s
        measures[f"{precision}_texts_per_s"] = in_process.texts_per_s
    if "bf16" in ours:  # beside the images, since a machine's speed changes from minute to minute
        measures["gflops_bf16"] = lambda: machine.matrix_gflops("bf16", options.seconds)
    measures["gflops_int8"] = lambda: machine.matrix_gflops("int8", options.seconds)
    return dict(zip(measures, alternate(options.rounds, *measures.values()), strict=True))


def _by_precision(
    rates: Mapping[str, list[float]], kept: Mapping[Precision, float]
) -> list[Figure]:
    """How near each comes to the processor's limit, and how far int8 goes past the others."""
    int8 = rates["int8_images_per_s"]
    figures = [
        Figure(
            "image.int8_neighbours",
            "share of fp32's 10 nearest that int8 keeps, on the bundled model",
            kept["int8"],
            Bar("at least", _MIN_NEIGHBOURS),
        ),
        _share_of_limit("image.int8_share_of_limit", "int8", rates, Bar("at least", 0.75)),
    ]
    bf16, fp32 = "image.int8_ratio", "image.int8_ratio_fp32"
    meanings = {bf16: "int8 images/s ÷ bf16 images/s", fp32: "int8 images/s ÷ fp32 images/s"}
    if "bf16_images_per_s" not in rates:
        reason = "the processor has no bf16 instructions"
        return [
            Figure("image.share_of_limit", "of bf16", None, reason=reason),
            Figure(bf16, meanings[bf16], None, reason=reason),
            Figure.ratio(
                fp32, meanings[fp32], int8, rates["fp32_images_per_s"], Bar("at least", 1.6)
            ),
            *figures,
        ]
    return [
        _share_of_limit("image.share_of_limit", "bf16", rates, Bar("at least", 0.80)),
        Figure.ratio(bf16, meanings[bf16], int8, rates["bf16_images_per_s"], Bar("at least", 1.4)),
        Figure(fp32, meanings[fp32], None, reason="the processor has bf16 instructions"),
        *figures,
    ]


def _share_of_limit(
    key: str, precision: Precision, rates: Mapping[str, list[float]], bar: Bar
) -> Figure:
    return Figure.ratio(
        key,
        f"{precision} images/s × {GFLOP_PER_IMAGE} GFLOP ÷ {precision} matrix-product rate",
        rates[f"{precision}_images_per_s"],
        [rate / GFLOP_PER_IMAGE for rate in rates[f"gflops_{precision}"]],
        bar,
    )


def _measure_served(
    options: argparse.Namespace,
    weights: Path,
    in_process: InProcess,
    tutorial: Tutorial,
    report: Report,
) -> None:
    starts = Starts(weights, {"ENCODER_PRECISION": in_process.model.precision})
    texts = new_texts(seed=8)
    images = Job("encode_pixels", options.seconds, callers=_IMAGE_CALLERS, size=_CALL_IMAGES)
    concurrent = Job("encode_texts", options.seconds, callers=_CALLERS)
    with (
        stacks.running_encoder(weights, starts.environment) as (address, pid, _),
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
        mixed = Mixed(generator, background, images, options.mixed_seconds)
        mixed_figures = [*mixed.paced(), *mixed.ceaseless(), *mixed.pictures()]
        peak_mb = stacks.peak_rss_mb(pid)
    report.details |= {
        "grpc_texts_per_s": served_texts,
        "grpc_images_per_s": served_images,
        **mixed.details,
    }
    report.figures += [
        Figure.ratio(
            "text.ratio_concurrent_grpc",
            f"texts/s, {_CALLERS} callers, gRPC ÷ tutorial's encode_text",
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
        *mixed_figures,
        *starts.figures(),
        Figure(
            "rss_mb",
            "peak resident memory of the encoder, in 10^6 bytes",
            peak_mb,
            Bar("at most", 800) if in_process.model.precision == "int8" else None,
        ),
    ]


def main() -> int:
    """Runs the benchmark; 0 also where bars are missed: the table says so."""
    options = _options()
    stacks.end_on_sigterm()
    weights = random_vit_b_32(stacks.OUTPUT)
    described = machine.describe()
    report = measure(options, weights)
    report.machine = described
    report.details["options"] = dict(sorted(vars(options).items()))
    report.write(stacks.OUTPUT / "encoder.json")
    print(report.table())
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encoder", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each single rate")
    parser.add_argument("--mixed-seconds", type=float, default=30.0, help="of texts beside images")
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
