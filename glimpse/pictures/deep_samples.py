"""Samples of 16 bits become those of 8 that a viewer shows: white is the end of the range that they
use. Alone in glimpse.pictures needs numpy."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glimpse.errors import InvalidImage
from glimpse.pictures.files import IMAGE_UNSUPPORTED

if TYPE_CHECKING:
    from glimpse.pictures.colours import Samples

# White, where samples do not say what it is: all bits set of as many as are in use.
_BITS = (8, 10, 12, 14, 16)
_PART_SAMPLES = 2**20  # so many are scaled at once
_MOST_OF_14_BITS = 0x3F  # of the high byte
_LOW_BYTES = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
"""What Pillow has to be told to be given the low bytes of samples of 16 bits, and not the high."""


def gray(image: Image.Image, samples: Samples) -> Image.Image:
    """Gray of 16 bits, in 8."""
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 0xFFFF:
        raise InvalidImage(
            "image",
            "the white level of 32-bit samples is unknown; use 8 or 16 bits",
            reason=IMAGE_UNSUPPORTED,
        )
    white = 0xFFF if samples.raw == "I;12" else _white(int(values.max()), samples)
    scaled = np.empty(values.shape, np.uint8)
    for lines, result in zip(_parts(values), _parts(scaled), strict=True):
        result[:] = _scaled(lines, white)
        if samples.white_is_zero:
            np.subtract(0xFF, result, out=result)
        if samples.transparent is not None:
            result[lines == samples.transparent] = 0xFF
    return Image.fromarray(scaled)


def with_low_bytes(image: Image.Image, samples: Samples, content: bytes) -> Image.Image:
    """A picture of 16 bits a colour, of which Pillow gives the high bytes, with the range that is
    used, if that is less."""
    if max(most for _, most in image.getextrema()[:3]) > _MOST_OF_14_BITS:  # type: ignore[index]
        return image
    low = Image.open(io.BytesIO(content), formats=(image.format or "",))
    raw = samples.raw[:-1] + _LOW_BYTES[samples.raw[-1]]
    low.tile = [
        tile._replace(args=raw if isinstance(tile.args, str) else (raw, *(tile.args or ())[1:]))
        for tile in low.tile
    ]
    low.load()
    white = _white(max(int(lines.max()) for _, lines in _joined(image, low)), samples)
    scaled = np.empty((image.height, image.width, 3), np.uint8)
    for first, lines in _joined(image, low):
        scaled[first : first + len(lines)] = _scaled(lines, white)
    del low
    shown = Image.fromarray(scaled)
    if "A" in image.getbands():
        shown.putalpha(image.getchannel("A"))
    return shown


def _joined(high: Image.Image, low: Image.Image) -> Iterator[tuple[int, NDArray[np.uint16]]]:
    """Colours [lines, W, 3] of 16 bits, and the number of the first line: some lines at a time."""
    count = max(1, _PART_SAMPLES // high.width)
    for first in range(0, high.height, count):
        box = 0, first, high.width, min(first + count, high.height)
        highs, lows = (np.asarray(image.crop(box))[..., :3] for image in (high, low))
        yield first, np.bitwise_or(highs.astype(np.uint16) << 8, lows, dtype=np.uint16)


def _white(most: int, samples: Samples) -> int:
    """The sample that is white, of a picture whose largest is `most`."""
    if samples.most >= max(most, 0xFF):
        return samples.most
    return next(white for bits in _BITS if (white := (1 << bits) - 1) >= most)


def _scaled(values: NDArray[Any], white: int) -> NDArray[np.uint8]:
    return ((values.astype(np.uint32) * 0xFF + white // 2) // white).astype(np.uint8)


def _parts(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Views of some lines each, so that what is computed with them stays small."""
    lines = max(1, _PART_SAMPLES // values.shape[1])
    return (values[first : first + lines] for first in range(0, len(values), lines))
