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


def neighbours_kept(precision: Precision) -> float:
    """The share of fp32's neighbours, 0 to 1, on the bundled model and the demo's 1,000 pictures.

    Neighbours are the 10 nearest images of each image but itself and of each of the 100 queries;
    of these two shares it is the lesser.
    """
    return min(
        float(np.mean([len(np.intersect1d(a, b)) for a, b in zip(ours, theirs, strict=True)]))
        / _NEIGHBOURS
        for ours, theirs in zip(_neighbours(precision), _exact_neighbours(), strict=True)
    )


@cache
def _exact_neighbours() -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return _neighbours("fp32")


def _neighbours(precision: Precision) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Places of the nearest images, [1000, 10] of images and [100, 10] of queries."""
    read = checkpoint.read(BUNDLED)
    model = in_int8(read)[0] if precision == "int8" else ClipModel(read, "cpu", precision)
    pixels = _pixels(model.shape.image_size)
    parts = [pixels[start : start + _BATCH] for start in range(0, len(pixels), _BATCH)]
    images = np.concatenate([model.encode_pixels(list(part)) for part in parts])  # [1000, D]
    between = images @ images.T
    np.fill_diagonal(between, -np.inf)
    asked = model.encode_texts(queries())[0] @ images.T
    return _nearest(between), _nearest(asked)


@cache
def _pixels(side: int) -> NDArray[np.uint8]:
    return collection(_COLLECTION_SEED, side)


def _nearest(scores: NDArray[np.float32]) -> NDArray[np.intp]:
    return np.argsort(-scores)[:, :_NEIGHBOURS]
