"""A picture file becomes the square of pixels that a model sees; tensors and colour arithmetic do
not.

By default the steps are those of openai/CLIP's own `preprocess` up to (not including) the division
by 255, so pictures of RGB or gray give the same bytes here and there. Where CLIP would fail or show
something else than people see, it is what viewers show: EXIF orientation is applied first, colours
are those of glimpse.pictures.colours, and JPEGs of more than 50 megapixels are decoded at a
smaller scale, as far as pixels stay the same within a level. What strangers send,
services.common.decode_worker decodes.

Any change of a step changes vectors: raise PREPROCESSING_VERSION with it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import ExifTags, Image
from PIL.ImageFile import ImageFile

from glimpse.pictures.bounds import has_several_scans
from glimpse.pictures.colours import load_as_shown
from glimpse.pictures.files import format_of, open_picture, translated
from glimpse.pictures.preprocessing import Interpolation, Preprocessing, Resize

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_BYTES_PER_PIXEL = 17
"""What decoding takes at most beside the file, by the growth of the process' peak at 20 million
pixels: WebP 16.3, PNG of 16 bits and CMYK 12, a progressive JPEG 7, and 8.4 where it is turned."""

_JPEG_BYTES_PER_SAMPLE = 2  # of a JPEG of several scans that is decoded at a smaller scale

_EXACT_PIXELS = 50_000_000  # JPEGs up to this size are decoded whole
_LEAST_SHRINK = 6  # how much of making a larger one smaller is left to the filter

_FILTERS = {
    Interpolation.BICUBIC: Image.Resampling.BICUBIC,
    Interpolation.BILINEAR: Image.Resampling.BILINEAR,
}
_REACH = 2  # pixels of its result, on each side, that the wider of these filters takes in

# Past this many times the short side, only the crop's part of a picture is resized.
_MAX_WHOLE_RATIO = 32

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
_MIRRORED_ACROSS, _MIRRORED_DOWN, _ON_ITS_SIDE = (2, 3, 7, 8), (3, 4, 6, 7), (5, 6, 7, 8)

Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Decoded:
    """A picture, ready for the model."""

    pixels: NDArray[np.uint8]  # [S, S, 3], RGB, C-contiguous
    width: int  # of the whole picture, in pixels, as a viewer shows it
    height: int
    format: str  # such as "JPEG"


def decode(content: bytes, preprocessing: Preprocessing, max_pixels: int) -> Decoded:
    """Return the square of pixels that a model sees of a picture file.

    Of an animation, the first frame; of several pages, the first. Raises InvalidImage for what
    glimpse.pictures' files and colours refuse, or cannot read.
    """
    return decode_opened(open_picture(content, max_pixels), preprocessing)


def decode_opened(opened: ImageFile, preprocessing: Preprocessing) -> Decoded:
    """Return what `decode` does of an opened picture, which has no further use then."""
    import numpy as np  # which a client may lack

    image, width, height = seen_square(opened, preprocessing)
    return Decoded(np.array(image), width, height, format_of(opened))


def seen_square(opened: ImageFile, preprocessing: Preprocessing) -> tuple[Image.Image, int, int]:
    """The square that a model sees of an opened picture, in mode "RGB"; and width and height of all
    of it, as a viewer shows it. Raises InvalidImage."""
    with translated():
        width, height = opened.size
        scale = _scale(opened, preprocessing)
        if scale > 1:
            opened.draft(None, (width // scale, height // scale))
        image = load_as_shown(opened)
        orientation = _orientation(opened)  # which a PNG may say after its pixels
        box = _shown_box(image.size, (width / scale, height / scale), orientation)
        if orientation in _TURNS:
            image = image.transpose(_TURNS[orientation])
        if orientation in _ON_ITS_SIDE:
            width, height = height, width
        return _square(image, box, preprocessing).convert("RGB"), width, height


def decode_bytes(opened: ImageFile, preprocessing: Preprocessing) -> int:
    """The memory that decoding an opened picture takes at most, beside its file."""
    scaled_pixels = math.prod(opened.size) // _scale(opened, preprocessing) ** 2
    return scaled_pixels * MAX_BYTES_PER_PIXEL + _held_bytes(opened, preprocessing)


def told_memory(opened: ImageFile, preprocessing: Preprocessing) -> str:
    """What explains the memory that decoding takes, where it is much for the picture's kind."""
    is_held = _held_bytes(opened, preprocessing) > 0
    return "a progressive JPEG of that size is held whole" if is_held else ""


def _held_bytes(opened: ImageFile, preprocessing: Preprocessing) -> int:
    """What a JPEG of several scans takes at any scale, until its last one is read."""
    if _scale(opened, preprocessing) == 1 or not isinstance(opened.fp, io.BytesIO):
        return 0
    samples = math.prod(opened.size) * len(opened.getbands())
    is_held = has_several_scans(opened.fp.getvalue())
    return samples * _JPEG_BYTES_PER_SAMPLE if is_held else 0


def _scale(opened: ImageFile, preprocessing: Preprocessing) -> int:
    """By how much a JPEG is made smaller as it is decoded: 1, 2 or 4."""
    if format_of(opened) != "JPEG" or math.prod(opened.size) <= _EXACT_PIXELS:
        return 1
    spare = min(opened.size) / (preprocessing.image_size * _LEAST_SHRINK)
    return next((scale for scale in (4, 2) if scale <= spare), 1)


def _orientation(image: Image.Image) -> int:
    """How its EXIF, or XMP, says that it is to be turned."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a broken EXIF block spoils no picture: viewers show it as it lies
        return 1


def _shown_box(size: tuple[int, int], shown: tuple[float, float], orientation: int) -> Box:
    """Which part of a picture there is to see, once it is turned: at a smaller scale, its last
    column and its last line are only partly there."""
    right, bottom = (whole - part for whole, part in zip(size, shown, strict=True))
    left = right if orientation in _MIRRORED_ACROSS else 0.0
    top = bottom if orientation in _MIRRORED_DOWN else 0.0
    box = (left, top, left + shown[0], top + shown[1])
    return (box[1], box[0], box[3], box[2]) if orientation in _ON_ITS_SIDE else box


def _square(image: Image.Image, box: Box, preprocessing: Preprocessing) -> Image.Image:
    """What the model sees of that part of the picture."""
    size, filter = preprocessing.image_size, _FILTERS[preprocessing.interpolation]
    if preprocessing.resize is Resize.STRETCH:
        return image.resize((size, size), filter, box)
    corner = int if preprocessing.resize is Resize.CROP_DOWN else round
    return _crop(image, box, size, filter, corner)


def _crop(
    image: Image.Image,
    box: Box,
    size: int,
    filter: Image.Resampling,
    corner: Callable[[float], int],
) -> Image.Image:
    """Resize the short side to `size` and cut the centre square out, as torchvision does for CLIP.

    Source of the formula: torchvision's Resize (long side rounded down) and CenterCrop (corner
    rounded half to even); transformers rounds the corner down.
    """
    width, height = box[2] - box[0], box[3] - box[1]
    short, long = min(width, height), max(width, height)
    new_long = int(size * long / short)
    new_width, new_height = (size, new_long) if width <= height else (new_long, size)
    left, top = corner((new_width - size) / 2), corner((new_height - size) / 2)
    if long <= _MAX_WHOLE_RATIO * short:
        image = image.resize((new_width, new_height), filter, box)
        return image.crop((left, top, left + size, top + size))
    # Whole, a line of 1 x 10,000 would become two million pixels long, all cut off again.
    across, down = width / new_width, height / new_height
    seen = (
        box[0] + left * across,
        box[1] + top * down,
        box[0] + (left + size) * across,
        box[1] + (top + size) * down,
    )
    return _part(image, seen, size, filter)


def _part(image: Image.Image, box: Box, size: int, filter: Image.Resampling) -> Image.Image:
    """A part of a picture, `size` pixels wide and high: the same pixels as if all of the picture
    were resized, and that part then cut out."""
    reach = math.ceil(_REACH * max(1.0, (box[3] - box[1]) / size)) + 1
    first, last = max(0, math.floor(box[1]) - reach), min(image.height, math.ceil(box[3]) + reach)
    lines = image.crop((0, first, image.width, last))
    # First across, then down, as Pillow does with a whole picture.
    lines = lines.resize((size, last - first), filter, (box[0], 0, box[2], last - first))
    return lines.resize((size, size), filter, (0, box[1] - first, size, box[3] - first))
