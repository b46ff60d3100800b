"""Makes a model in int8, and says how much of what fp32 finds it still finds; what follows from
that is precisions.py's.

Random weights say nothing about the outliers that trained ones have, so both are done on the
weights that are loaded. fp32 is computed once, a layer at a time: it shows what comes into each
layer, for which int8 is made, and gives the vectors that int8's are held against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from services.encoder.checkpoint import Checkpoint
from services.encoder.drawn_pictures import draw
from services.encoder.inputs import Inputs
from services.encoder.model import ClipModel

_PICTURES, _TEXTS = 64, 64
_MOST_ROWS, _ROWS_OF_RESNET = 4096, 512  # of a batch's images
# The more pictures, the nearer they lie, and the smaller the differences that change their order.
# With three times the difference to fp32, the few here keep what a thousand photographs do.
_DIFFERENCES = 3.0
_COUNTS = range(4, 21, 2)  # of neighbours: the mean over some depends less on chance
_MOST_WORDS = 48

_WORDS = [
    "two",
    "small",
    "white",
    "dogs",
    "run",
    "along",
    "the",
    "beach",
    "below",
    "a",
    "bright",
    "sky,",
    "while",
    "an",
    "old",
    "man",
    "in",
    "a",
    "red",
    "coat",
    "watches",
    "them",
    "from",
    "a",
    "wooden",
    "bench;",
    "behind",
    "him",
    "stand",
    "a",
    "blue",
    "car,",
    "three",
    "bicycles,",
    "a",
    "market",
    "stall",
    "with",
    "oranges",
    "and",
    "bread,",
    "and,",
    "far",
    "away,",
    "mountains",
    "under",
    "snow",
    "at",
    "the",
    "end",
    "of",
    "a",
    "long",
    "day",
]

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """How well vectors agree with those of fp32."""

    # Share of the nearest pictures that are the same, by pictures and by texts, as it would be
    # among a thousand photographs.
    neighbours: float
    least_cosine: float  # to the same picture's or text's in fp32
    low_cosine: float  # that nineteen of twenty reach
    median_cosine: float

    def __str__(self) -> str:
        return (
            f"keeps {self.neighbours:.3f} of fp32's nearest pictures, "
            f"cosines {self.least_cosine:.4f} at least, {self.low_cosine:.4f} for 19 of 20, "
            f"{self.median_cosine:.4f} in the middle"
        )


class Reference(NamedTuple):
    """What a model in fp32 showed."""

    pictures: list[NDArray[np.uint8]]  # 64, [S, S, 3], no more than a few dozen MB
    inputs: dict[str, Inputs]  # of its linear layers, by their weights
    vectors: tuple[Vectors, Vectors]  # of the pictures, [64, D], and of the texts, [64, D]


def reference(checkpoint: Checkpoint, threads: int = 0) -> Reference:
    """The model in fp32 on the CPU; only what it showed is kept. Raises as ClipModel does."""
    pictures = [draw(number, checkpoint.shape.image_size) for number in range(_PICTURES)]
    inputs: dict[str, Inputs] = {}
    model = ClipModel(checkpoint, "cpu", "fp32", threads, inputs)
    return Reference(pictures, inputs, _vectors(model, pictures))


def in_int8(
    checkpoint: Checkpoint,
    threads: int = 0,
    exact: Reference | None = None,
    made: dict[str, Tensor] | None = None,
) -> tuple[ClipModel, Agreement]:
    """The model in int8 on the CPU, and how it agrees with itself in fp32, which is computed first
    unless it is given. `made` is as of ClipModel, which also says what is raised."""
    exact = exact or reference(checkpoint, threads)
    model = ClipModel(checkpoint, "cpu", "int8", threads, exact.inputs, made)
    return model, agreement(_vectors(model, exact.pictures), exact.vectors)


def agreement(ours: tuple[Vectors, Vectors], exact: tuple[Vectors, Vectors]) -> Agreement:
    """Of vectors of pictures [N, D] and of texts [M, D] with those of fp32."""
    cosines = np.concatenate([(a * b).sum(1) for a, b in zip(ours, exact, strict=True)])
    least, low, median = np.quantile(cosines, [0, 0.05, 0.5])
    pictures, texts = (_further(a, b) for a, b in zip(ours, exact, strict=True))
    itself = np.eye(len(pictures), dtype=bool)
    kept = [
        (
            neighbours_kept(pictures @ pictures.T, exact[0] @ exact[0].T, count, itself)
            + neighbours_kept(texts @ pictures.T, exact[1] @ exact[0].T, count)
        )
        / 2
        for count in _COUNTS
    ]
    return Agreement(float(np.mean(kept)), float(least), float(low), float(median))


def _further(ours: Vectors, exact: Vectors) -> Vectors:
    """Unit vectors that differ from the exact ones as ours do, and by more."""
    vectors = exact + _DIFFERENCES * (ours - exact)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def neighbours_kept(
    ours: Vectors, exact: Vectors, count: int = 10, left_out: NDArray[np.bool_] | None = None
) -> float:
    """The share of the `count` highest in each row of exact scores [N, M] that are so in ours.

    Places that are `left_out` [N, M] do not count.
    """
    near = []
    for scores in (ours, exact):
        if left_out is not None:
            scores = np.where(left_out, -np.inf, scores)
        near.append(np.argpartition(-scores, count - 1)[:, :count])
    kept = [len(np.intersect1d(a, b)) for a, b in zip(*near, strict=True)]
    return float(np.mean(kept)) / count


def _vectors(model: ClipModel, pictures: Sequence[NDArray[np.uint8]]) -> tuple[Vectors, Vectors]:
    count = max(1, _MOST_ROWS // (model.shape.image_rows or _ROWS_OF_RESNET))
    batches = [pictures[first : first + count] for first in range(0, len(pictures), count)]
    vectors = np.concatenate([model.encode_pixels(batch) for batch in batches])
    return vectors, model.encode_texts(_texts())[0]


def _texts() -> list[str]:
    """Of one word to four dozen, the same in every process."""
    dice = np.random.default_rng(1)
    lengths = [1 + number * _MOST_WORDS // _TEXTS for number in range(_TEXTS)]
    return [" ".join(dice.choice(_WORDS, length)) for length in lengths]
