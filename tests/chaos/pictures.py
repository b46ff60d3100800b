"""The pictures of a chaos run: as many as are wanted, each told by its number alone."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

SIZE = 16  # pixels along a side, as many as the encoder's model sees
DIMENSION = 32


def content(number: int) -> bytes:
    """The file; no two numbers have the same."""
    noise = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "BMP")
    return stream.getvalue()
