"""`make bench-models`: each family of models beside its own library, in the size of its B/32.

Weights are random, written by the family's library; what is compared is that vectors and tokens are
the library's, how fast they are, and how long an encoder takes to start with them.

Speed is compared within this process, between models and not services: from pixels as uint8 or from
a text to vectors of length 1, in fp32, with as many threads on either side as there are CPUs. Both
take turns in many short rounds (pairs.py); a figure is the median of the rounds' ratios, its range
where the half in the middle of them lies. Beside each stands the ratio of processor times, `…_cpu`,
which other work on the machine changes least.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from benchmarks import machine, stacks
from benchmarks.pairs import in_pairs
from benchmarks.report import Bar, Figure, Report
from benchmarks.texts import new_texts
from glimpse.cli.console import say
from services.encoder import checkpoint
from services.encoder.checkpoint import Checkpoint
from services.encoder.download import WeightsFile
from services.encoder.model import ClipModel
from tests.model_families import SENTENCES, Family, hugging_face_clip, open_clip_clip, siglip

_BATCH, _SMALL_BATCH = 32, 8
_SHORT_ROUNDS = 3  # of texts and small batches, for each round of batches
_MOST_OFF = 1e-4
_TOWER = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
_TOWER |= {"num_attention_heads": 12}
_SIGLIP_2_VOCABULARY = 256_000

FAMILIES: dict[str, Callable[[Path], Family]] = {
    "hugging_face": lambda folder: hugging_face_clip(folder, vision={}, text={}, dimension=512),
    "open_clip": lambda folder: open_clip_clip(
        folder,
        embed_dim=512,
        vision_cfg={
            "image_size": 224,
            "layers": 12,
            "width": 768,
            "head_width": 64,
            "patch_size": 32,
        },
        text_cfg={"width": 512, "heads": 8, "layers": 12},
    ),
    "siglip": lambda folder: siglip(
        folder, image_size=256, patch_size=32, tower=_TOWER, vocab_size=_SIGLIP_2_VOCABULARY
    ),
}


def measure(options: argparse.Namespace) -> Report:
    """All figures; the folders are made anew, and removed."""
    report = Report("models", "make bench-models", {})
    for name, make in FAMILIES.items():
        say(f"{name} ...")
        folder = stacks.OUTPUT / "models" / name
        shutil.rmtree(folder, ignore_errors=True)
        family = make(folder)
        read = checkpoint.read(WeightsFile(name, folder))
        model = ClipModel(read, "cpu", "fp32")
        report.figures += _parity(name, family, model, options)
        if options.start:
            report.figures += _start(name, folder)
        if name == "hugging_face":
            report.figures += _openai_ratio(read, model, options, report)
        if name == "siglip":
            report.figures += _siglip_ratios(family, model, options, report)
        shutil.rmtree(folder)
    return report


def _parity(
    name: str, family: Family, model: ClipModel, options: argparse.Namespace
) -> list[Figure]:
    texts = [*SENTENCES, *(" ".join(["dog"] * count) for count in (1, 20, 40, 62, 75, 80))]
    pixels = _pixels(4, family.size)
    images = np.abs(model.encode_pixels(list(pixels)) - family.encode_pixels(pixels)).max()
    words = np.abs(model.encode_texts(texts)[0] - family.encode_texts(texts)).max()
    strings = _strings(options.strings)
    different = sum(not _same_tokens(family, model, text) for text in strings)
    bar = Bar("at most", _MOST_OFF)
    return [
        Figure(
            f"{name}.images_off", "largest difference to the library's, fp32", float(images), bar
        ),
        Figure(f"{name}.texts_off", "likewise, of texts", float(words), bar),
        Figure(
            f"{name}.tokens_off",
            f"of {len(strings)} random strings, those with other tokens than the library's",
            float(different),
            Bar("at most", 0),
        ),
    ]


def _same_tokens(family: Family, model: ClipModel, text: str) -> bool:
    ids, theirs = model.tokenizer.encode(text).ids.tolist(), family.tokens([text])[0].tolist()
    return ids == theirs[: len(ids)] and not any(theirs[len(ids) :])


def _strings(count: int) -> list[str]:
    """Of letters that the sentences have, and of any."""
    dice, known = Random(7), "".join(SENTENCES)  # noqa: S311 (no secret)
    anything = [chr(code) for code in range(32, 0x1FAFF) if chr(code).isprintable()]
    return [
        "".join(dice.choices(dice.choice((known, anything)), k=dice.randint(1, 60)))
        for _ in range(count)
    ]


def _start(name: str, folder: Path) -> list[Figure]:
    with stacks.running_encoder(folder, {"ENCODER_ACTIVATION": ""}) as (_, pid, start_s):
        memory_mb = stacks.peak_rss_mb(pid)
    return [
        Figure(f"{name}.start_s", "seconds from the encoder's start to SERVING", start_s),
        Figure(f"{name}.rss_mb", "its peak resident memory, in 10^6 bytes", memory_mb),
    ]


def _openai_ratio(
    read: Checkpoint, model: ClipModel, options: argparse.Namespace, report: Report
) -> list[Figure]:
    """The same weights as a state dict in openai/CLIP's format."""
    path = stacks.OUTPUT / "models" / "openai.pt"
    weights = {key: tensor.contiguous() for key, tensor in read.weights.items()}
    torch.save(weights, path)
    openai = ClipModel(checkpoint.read(WeightsFile("openai", path), "quick_gelu"), "cpu", "fp32")
    path.unlink()
    pixels = list(_pixels(_SMALL_BATCH, 224))
    pairs = in_pairs(
        options.rounds * _SHORT_ROUNDS,
        lambda: model.encode_pixels(pixels),
        lambda: openai.encode_pixels(pixels),
    )
    report.details["hugging_face_ratios"] = asdict(pairs)
    return pairs.figures(
        "hugging_face_ratio",
        f"images/s of Hugging Face's B/32, {_SMALL_BATCH} at a time ÷ the same weights in "
        "openai/CLIP's format",
        Bar("at least", 0.97, at_most=1.03),
    )


def _siglip_ratios(
    family: Family, model: ClipModel, options: argparse.Namespace, report: Report
) -> list[Figure]:
    pixels, texts = _pixels(_BATCH, family.size), new_texts(seed=3)
    images = in_pairs(
        options.rounds,
        lambda: model.encode_pixels(list(pixels)),
        lambda: family.encode_pixels(pixels),
    )
    words = in_pairs(
        options.rounds * _SHORT_ROUNDS,
        lambda: model.encode_texts([next(texts)]),
        lambda: family.encode_texts([next(texts)]),
    )
    report.details |= {"siglip_images_ratios": asdict(images), "siglip_texts_ratios": asdict(words)}
    return [
        *images.figures(
            "siglip_images_ratio",
            f"images/s of SigLIP 2 B/32-256 in batches of {_BATCH} ÷ transformers', fp32",
            Bar("at least", 1.15),
        ),
        *words.figures(
            "siglip_texts_ratio",
            "texts/s of SigLIP 2 one at a time, tokens included ÷ transformers', fp32",
            Bar("at least", 1.0),
        ),
    ]


def _pixels(count: int, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(1).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 0 also where bars are missed: the table says so."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="of images; each takes both twice")
    parser.add_argument("--strings", type=int, default=10_000, help="random ones, for tokens")
    start = argparse.BooleanOptionalAction
    parser.add_argument("--start", action=start, default=True, help="start encoders, too")
    options = parser.parse_args(arguments)
    stacks.end_on_sigterm()
    described = machine.describe()
    report = measure(options)
    report.machine = described
    report.details["options"] = dict(sorted(vars(options).items()))
    report.write(stacks.OUTPUT / "models.json")
    print(report.table())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
