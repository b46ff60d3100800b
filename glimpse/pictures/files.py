"""Picture files become pictures, as far as they are there; what a viewer makes of their samples is
the job of glimpse.pictures.colours, and what a model sees of them preprocess'."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
from collections.abc import Iterator

from PIL import Image
from PIL.ImageFile import ImageFile

from glimpse.errors import InvalidImage
from glimpse.pictures.bounds import check_structure, webp_size
from glimpse.pictures.names import refused_name
from glimpse.pictures.png_chunks import without_texts

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
"""The decoders that a stranger's bytes can reach; Pillow has many more."""

_PLUGINS = ("Avif", "Bmp", "Gif", "Jpeg", "Mpo", "Png", "Tiff", "WebP")

IMAGE_EMPTY = "IMAGE_EMPTY"
IMAGE_UNREADABLE = "IMAGE_UNREADABLE"
IMAGE_TRUNCATED = "IMAGE_TRUNCATED"
IMAGE_TOO_LARGE = "IMAGE_TOO_LARGE"
IMAGE_UNSUPPORTED = "IMAGE_UNSUPPORTED"

_FIELD = "image"  # what errors name; whoever knows the request's own field says so

_JPEG_END = b"\xff\xd9"
_JPEG_NOISE = bytes(range(1, 255)) * 16  # decodes to something, whatever the tables
_MAX_LOST_SHARE = 10  # of a JPEG's lines, one in so many may not be there
_UNTOLD = (128, 128)  # what libjpeg shows where it knows nothing


@functools.cache
def readable_formats() -> tuple[str, ...]:
    """Loads what reads FORMATS, and returns those that can be read here: all where the services
    run; elsewhere Pillow may be older, and pillow-heif, without which there is no HEIF, missing.

    Pillow by itself would load all that it has. A program that has set HEIF up keeps its own.
    """
    for name in _PLUGINS:
        with contextlib.suppress(ImportError):
            importlib.import_module(f"PIL.{name}ImagePlugin")
    if "HEIF" not in Image.OPEN:
        with contextlib.suppress(ImportError):
            # Not at the top: services know of decoding, and leave it to their workers.
            import pillow_heif

            pillow_heif.register_heif_opener(
                thumbnails=False, depth_images=False, aux_images=False, decode_threads=1
            )
    return tuple(name for name in FORMATS if name in Image.OPEN)


def open_picture(content: bytes, max_pixels: int) -> ImageFile:
    """The picture, of which only the head is read.

    Raises InvalidImage for what is no picture of FORMATS, has more than `max_pixels` pixels (width
    times height), or breaks a bound of glimpse.pictures.bounds.
    """
    if not content:
        raise InvalidImage(_FIELD, "the file is empty", reason=IMAGE_EMPTY)
    if name := refused_name(content):
        problem = f"is {name}, which is not taken; taken are {', '.join(FORMATS)}"
        raise InvalidImage(_FIELD, problem, reason=IMAGE_UNSUPPORTED)
    check_structure(content)
    _check_size(webp_size(content), max_pixels)
    formats = readable_formats()
    with translated(f"the {max_pixels} allowed"):
        image = Image.open(io.BytesIO(without_texts(content)), formats=formats)
        _check_size(image.size, max_pixels)
        return image


def load(opened: ImageFile) -> Image.Image:
    """The opened picture, or another one of the same file, with its pixels.

    A JPEG that ends too early is taken where nine tenths of its lines are there. Raises whatever
    Pillow raises.
    """
    source, setup = opened.fp, (opened.tile, opened.decoderconfig)
    try:
        opened.load()
    except OSError as error:
        if not isinstance(source, io.BytesIO) or format_of(opened) != "JPEG":
            raise
        if "truncated" not in str(error):
            raise
        return _completed(source.getvalue(), opened.size, setup, error)
    return opened


def format_of(image: Image.Image) -> str:
    """Its format's name, such as "JPEG", also for one with further pictures behind it (MPO)."""
    return "JPEG" if image.format == "MPO" else image.format or ""


@contextlib.contextmanager
def translated(most: str = "are allowed") -> Iterator[None]:
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


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        problem = f"{width} x {height} pixels; at most {max_pixels} are allowed"
        raise InvalidImage(_FIELD, problem, reason=IMAGE_TOO_LARGE)


def _completed(content: bytes, size: tuple[int, int], setup: tuple, error: OSError) -> Image.Image:
    """A JPEG with the end that it lacks; raises `error` where too much else lacks, too.

    What lacks has one colour, in viewers as well. So does the foot of many a picture: there, noise
    in place of the end changes nothing.
    """

    def ended(end: bytes) -> Image.Image:
        image = Image.open(io.BytesIO(content + end), formats=("JPEG",))
        image.tile, image.decoderconfig = setup
        image._size = size
        image.load()
        return image

    image = ended(_JPEG_END)
    foot = 0, size[1] - 1 - size[1] // _MAX_LOST_SHARE, *size
    colours = _extrema(image.crop(foot))
    if all(least == most for least, most in colours) and (
        set(colours) == {_UNTOLD} or colours != _extrema(ended(_JPEG_NOISE + _JPEG_END).crop(foot))
    ):
        raise error
    return image


def _extrema(image: Image.Image) -> tuple[tuple[int, int], ...]:
    return tuple(band.getextrema() for band in image.split())  # type: ignore[misc]
