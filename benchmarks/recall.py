"""What a reduced precision costs a search: how many of fp32's nearest images it still finds."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from demo.evaluate import collection, queries
from services.encoder import checkpoint
from services.encoder.download import BUNDLED
from services.encoder.hardware import Precision
from services.encoder.int8_check import in_int8
from services.encoder.model import ClipModel

_NEIGHBOURS = 10
_COLLECTION_SEED = 7  # the demo's own
_BATCH = 50


Vectors = NDArray[np.float32]


def neighbours_kept(precision: Precision) -> float:
    """As kept(), of our own model in a precision."""
    return kept(*_encoded(precision))


def kept(images: Vectors, texts: Vectors) -> float:
    """The share of fp32's neighbours, 0 to 1, on the bundled model and the demo's 1,000 pictures,
    by their vectors [1000, D] and those of the 100 queries [100, D].

    Neighbours are the 10 nearest images of each image but itself and of each of the 100 queries;
    of these two shares it is the lesser.
    """
    return min(
        float(np.mean([len(np.intersect1d(a, b)) for a, b in zip(ours, theirs, strict=True)]))
        / _NEIGHBOURS
        for ours, theirs in zip(_neighbours(images, texts), _exact_neighbours(), strict=True)
    )


@cache
def pixels(side: int) -> NDArray[np.uint8]:
    """Of the pictures, uint8 [1000, side, side, 3]."""
    return collection(_COLLECTION_SEED, side)


@cache
def _exact_neighbours() -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return _neighbours(*_encoded("fp32"))


def _encoded(precision: Precision) -> tuple[Vectors, Vectors]:
    read = checkpoint.read(BUNDLED)
    model = in_int8(read)[0] if precision == "int8" else ClipModel(read, "cpu", precision)
    whole = pixels(model.shape.image_size)
    parts = [whole[start : start + _BATCH] for start in range(0, len(whole), _BATCH)]
    images = np.concatenate([model.encode_pixels(list(part)) for part in parts])
    return images, model.encode_texts(queries())[0]


def _neighbours(images: Vectors, texts: Vectors) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Places of the nearest images, [1000, 10] of images and [100, 10] of queries."""
    between = images @ images.T
    np.fill_diagonal(between, -np.inf)
    return _nearest(between), _nearest(texts @ images.T)


def _nearest(scores: NDArray[np.float32]) -> NDArray[np.intp]:
    return np.argsort(-scores)[:, :_NEIGHBOURS]
