"""A picture's samples become those that a viewer shows, RGB or gray of 8 bits; where CLIP's own
`convert("RGB")` shows the same, nothing is changed.

Colour profiles are not looked at, as CLIP does not look at them: colours are those of sRGB.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile

from glimpse.errors import InvalidImage
from services.common.picture_files import IMAGE_UNSUPPORTED, load

# White, where samples of 16 bits do not say what it is: all bits set of as many as are in use.
_BITS = (8, 10, 12, 14, 16)
_PART_SAMPLES = 2**20  # so many are scaled at once
_MAX_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 281, 262, 0  # of TIFF

_GRAY_STEPS = {"L;2": 0x55, "L;4": 0x11}  # between gray levels, as Pillow spreads them
_COLOURS_OF_16_BITS = ("RGB;16", "RGBA;16", "RGBX;16")
_MOST_OF_14_BITS = 0x3F  # of the high byte
_LOW_BYTES = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
"""What Pillow has to be told to be given the low bytes of samples of 16 bits, and not the high."""


@dataclass(frozen=True)
class _Samples:
    """What a file says of its samples; to be asked before they are read."""

    raw: str  # Pillow's name of their layout in the file, such as "RGB;16B"; or ""
    most: int  # the largest that there is, or 0
    white_is_zero: bool
    transparent: Any  # as in Image.info, but on the scale on which Pillow gives the samples

    @classmethod
    def of(cls, opened: ImageFile) -> _Samples:
        arguments = opened.tile[0][3] if opened.tile else ""
        raw = arguments if isinstance(arguments, str) else next(iter(arguments or ("",)))
        tags = getattr(opened, "tag_v2", {})
        (most,) = (tags.get(_MAX_SAMPLE) or (0,))[:1]  # of several colours, the first one's
        transparent = opened.info.get("transparency")
        if isinstance(raw, str) and isinstance(transparent, int):
            transparent *= _GRAY_STEPS.get(raw, 1)
        elif isinstance(transparent, tuple) and max(transparent) > 0xFF:
            transparent = tuple(each >> 8 for each in transparent)
        return cls(
            raw if isinstance(raw, str) else "",
            most if isinstance(most, int) else 0,
            tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO,
            transparent,
        )


def load_as_shown(opened: ImageFile) -> Image.Image:
    """The opened picture as a viewer shows it, in mode "RGB" or "L".

    White is behind what is transparent. Samples of 16 bits have the range that they use. Raises
    InvalidImage for samples of which nobody knows what is white, and whatever Pillow raises.
    """
    samples, source = _Samples.of(opened), opened.fp
    image = load(opened)
    if image.mode.startswith(("I", "F")):
        return _gray(image, samples)
    if samples.transparent is not None:
        image.info["transparency"] = samples.transparent
    elif samples.raw.startswith(_COLOURS_OF_16_BITS) and isinstance(source, io.BytesIO):
        image = _with_low_bytes(image, samples, source.getvalue())
    if image.has_transparency_data:
        return _over_white(image)
    if image.mode in ("RGB", "L"):
        return image
    return _converted(image, "L" if image.mode == "1" else "RGB")


def _converted(image: Image.Image, mode: str) -> Image.Image:
    try:
        return image.convert(mode)
    except (ValueError, OSError) as error:
        raise InvalidImage(
            "image",
            f"colour mode {image.mode} cannot be converted to RGB",
            reason=IMAGE_UNSUPPORTED,
        ) from error


def _over_white(image: Image.Image) -> Image.Image:
    """A picture with alpha as it is seen on white."""
    if image.mode not in ("LA", "RGBA"):
        image = _converted(image, "LA" if image.mode == "La" else "RGBA")
    shown = Image.new("L" if image.mode == "LA" else "RGB", image.size, "white")
    shown.paste(image, (0, 0), image)
    return shown


def _gray(image: Image.Image, samples: _Samples) -> Image.Image:
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


def _with_low_bytes(image: Image.Image, samples: _Samples, content: bytes) -> Image.Image:
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


def _white(most: int, samples: _Samples) -> int:
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
