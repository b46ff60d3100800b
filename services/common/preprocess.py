"""A picture file becomes the square of pixels that a model sees; tensors and colour arithmetic do
not.

By default the steps are those of openai/CLIP's own `preprocess` up to (not including) the division
by 255, so pictures give the same bytes here and there. Three things are added, for pictures on
which CLIP would fail or show something else than people see: the EXIF orientation is applied first,
gray of 16 bits is scaled to 8 (CLIP clips it to white), and very long pictures are resized only
where the crop looks (equal up to rounding). What strangers send,
services.common.decode_worker decodes.

Any change of a step changes vectors: raise PREPROCESSING_VERSION with it.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from glimpse.errors import InvalidImage
from services.common.picture_bounds import check_structure, webp_size
from services.common.preprocessing import Interpolation, Preprocessing, Resize

MAX_BYTES_PER_PIXEL = 17
"""What decoding takes at most beside the file, by the growth of the process' peak at 20 million
pixels: WebP 16.3, PNG of 16 bits and CMYK 12, a progressive JPEG 7, and 8.4 where it is turned."""

_FIELD = "image"  # what errors name; whoever knows the request's own field says so

# The decoders that a stranger's bytes can reach; Pillow has many more.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")

IMAGE_EMPTY = "IMAGE_EMPTY"
IMAGE_UNREADABLE = "IMAGE_UNREADABLE"
IMAGE_TRUNCATED = "IMAGE_TRUNCATED"
IMAGE_TOO_LARGE = "IMAGE_TOO_LARGE"
IMAGE_UNSUPPORTED = "IMAGE_UNSUPPORTED"

_FILTERS = {
    Interpolation.BICUBIC: Image.Resampling.BICUBIC,
    Interpolation.BILINEAR: Image.Resampling.BILINEAR,
}

# Past this many times the short side, only the crop's part of a picture is resized.
_MAX_WHOLE_RATIO = 32

# Of gray with 16 bits, so many samples are scaled at once.
_PART_SAMPLES = 2**20

# By the EXIF orientation; Pillow's own exif_transpose would also write all of the EXIF anew.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Decoded:
    """A picture, ready for the model."""

    pixels: NDArray[np.uint8]  # [S, S, 3], RGB, C-contiguous
    width: int  # of the whole picture, in pixels, as a viewer shows it
    height: int
    format: str  # Pillow's name of the file format, such as "JPEG"


def decode(content: bytes, preprocessing: Preprocessing, max_pixels: int) -> Decoded:
    """Return the square of pixels that a model sees of a picture file.

    Of an animation, the first frame. Transparency is dropped as CLIP drops it. Raises InvalidImage,
    whose reason is one of the constants above or IMAGE_TOO_COMPLEX, for bytes that are no picture
    of FORMATS, are cut short, hold more than `max_pixels` pixels (width times height, known before
    decoding), or break a bound of picture_bounds.
    """
    return decode_opened(open_picture(content, max_pixels), preprocessing)


def open_picture(content: bytes, max_pixels: int) -> Image.Image:
    """Return the picture, of which only the head is read; raises InvalidImage as `decode`."""
    if not content:
        raise InvalidImage(_FIELD, "the file is empty", reason=IMAGE_EMPTY)
    check_structure(content)
    _check_size(webp_size(content), max_pixels)
    with _translated(f"the {max_pixels} allowed"):
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        _check_size(image.size, max_pixels)
        return image


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        problem = f"{width} x {height} pixels; at most {max_pixels} are allowed"
        raise InvalidImage(_FIELD, problem, reason=IMAGE_TOO_LARGE)


def decode_opened(opened: Image.Image, preprocessing: Preprocessing) -> Decoded:
    """Return what `decode` does of an opened picture, which has no further use then."""
    with _translated():
        opened.load()
        image = _eight_bits(_turned_upright(opened))
        width, height = image.size
        try:
            pixels = np.array(_square(image, preprocessing).convert("RGB"))  # [S, S, 3]
        except (ValueError, OSError) as error:
            raise InvalidImage(
                _FIELD,
                f"colour mode {image.mode} cannot be converted to RGB",
                reason=IMAGE_UNSUPPORTED,
            ) from error
    return Decoded(pixels, width, height, opened.format or "")


@contextlib.contextmanager
def _translated(most: str = "are allowed") -> Iterator[None]:
    """Makes whatever Pillow raises the InvalidImage that it stands for."""
    try:
        yield
    except (InvalidImage, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InvalidImage(_FIELD, f"more pixels than {most}", reason=IMAGE_TOO_LARGE) from error
    except Image.UnidentifiedImageError as error:
        known = ", ".join(FORMATS)
        raise InvalidImage(
            _FIELD, f"not a picture of one of {known}", reason=IMAGE_UNREADABLE
        ) from error
    except Exception as error:  # broken files make Pillow raise almost every built-in exception
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> InvalidImage:
    if "truncated" in str(error).lower() or isinstance(error, EOFError):
        return InvalidImage(_FIELD, "the file is truncated", reason=IMAGE_TRUNCATED)
    return InvalidImage(_FIELD, "the file is damaged", reason=IMAGE_UNREADABLE)


def _eight_bits(image: Image.Image) -> Image.Image:
    """The picture with gray of 16 bits scaled to 8 bits; any other picture as it is."""
    if not image.mode.startswith(("I", "F")):
        return image
    samples = np.asarray(image)
    if image.mode == "F" or samples.min() < 0 or samples.max() > 0xFFFF:
        raise InvalidImage(
            _FIELD,
            "the white level of 32-bit samples is unknown; use 8 or 16 bits",
            reason=IMAGE_UNSUPPORTED,
        )
    scaled = np.empty(samples.shape, np.uint8)
    for lines, result in zip(_parts(samples), _parts(scaled), strict=True):
        result[:] = (lines.astype(np.uint32) * 255 + 32767) // 65535
    return Image.fromarray(scaled)


def _parts(samples: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Views of some lines each, so that what is computed with them stays small."""
    lines = max(1, _PART_SAMPLES // samples.shape[1])
    return (samples[first : first + lines] for first in range(0, len(samples), lines))


def _turned_upright(image: Image.Image) -> Image.Image:
    """The picture as its EXIF, or XMP, says that it is to be shown."""
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a broken EXIF block spoils no picture: viewers show it as it lies
        return image
    return image if turn is None else image.transpose(turn)


def _square(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    size, filter = preprocessing.image_size, _FILTERS[preprocessing.interpolation]
    if preprocessing.resize is Resize.STRETCH:
        return image.resize((size, size), filter)
    corner = int if preprocessing.resize is Resize.CROP_DOWN else round
    return _crop(image, size, filter, corner)


def _crop(
    image: Image.Image, size: int, filter: Image.Resampling, corner: Callable[[float], int]
) -> Image.Image:
    """Resize the short side to `size` and cut the centre square out, as torchvision does for CLIP.

    Source of the formula: torchvision's Resize (long side rounded down) and CenterCrop (corner
    rounded half to even); transformers rounds the corner down.
    """
    width, height = image.size
    short, long = min(width, height), max(width, height)
    new_long = int(size * long / short)
    new_width, new_height = (size, new_long) if width <= height else (new_long, size)
    left, top = corner((new_width - size) / 2), corner((new_height - size) / 2)
    if long > _MAX_WHOLE_RATIO * short:
        # Whole, a line of 1 x 10,000 would become two million pixels long, all cut off again.
        x_scale, y_scale = width / new_width, height / new_height
        box = (left * x_scale, top * y_scale, (left + size) * x_scale, (top + size) * y_scale)
        return image.resize((size, size), filter, box=box)
    image = image.resize((new_width, new_height), filter)
    return image.crop((left, top, left + size, top + size))
