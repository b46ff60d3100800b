"""How well a model in a reduced precision agrees with itself in fp32; what follows is main.py's.

Random weights say nothing about the outliers that trained ones have, so this is measured on the
weights that are loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from services.encoder.model import ClipModel

_PICTURES, _TEXTS, _BATCH = 32, 32, 8

# From two fields of colour across to grain as fine as pixels, as photographs have all of it.
_FINEST = 7

_SENTENCE = (
    "two small white dogs run along the beach below a bright sky, while an old man in a red coat "
    "watches them from a wooden bench; behind him stand a blue car, three bicycles, a market stall "
    "with oranges and bread, and, far away, mountains under snow at the end of a long day"
)


def least_cosine(model: ClipModel, exact: ClipModel) -> float:
    """The least cosine between the two models' vectors of a few dozen pictures and texts."""
    pictures = _pictures(model.shape.image_size)
    pairs = [
        (model.encode_pixels(part), exact.encode_pixels(part))
        for part in map(list, np.split(pictures, _PICTURES // _BATCH))
    ]
    words = _SENTENCE.split()
    texts = [" ".join(words[: 1 + number * len(words) // _TEXTS]) for number in range(_TEXTS)]
    pairs.append((model.encode_texts(texts)[0], exact.encode_texts(texts)[0]))
    return min(float((ours * theirs).sum(1).min()) for ours, theirs in pairs)


def _pictures(side: int) -> NDArray[np.uint8]:
    """uint8 [32, side, side, 3]: coloured noise from coarse to fine, the same in every process."""
    random = np.random.default_rng(1)
    pictures = []
    for number in range(_PICTURES):
        cells = min(2 ** (1 + number % _FINEST), side)
        noise = random.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        pictures.append(np.asarray(Image.fromarray(noise).resize((side, side))))
    return np.stack(pictures)
