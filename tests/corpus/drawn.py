"""The picture that most files of the corpus show, and what becomes of it by hand: no decoder has a
part in it."""

from __future__ import annotations

import functools
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.corpus.case import Colours

WIDTH, HEIGHT = 96, 64


@functools.cache
def picture() -> Colours:
    """Smooth colours with a dark disc and a bright bar, different on each side and corner."""
    down, across = np.mgrid[0:HEIGHT, 0:WIDTH]
    colours = np.stack(
        (across * 255 // WIDTH, down * 255 // HEIGHT, 200 - across * 99 // WIDTH), axis=-1
    )
    colours[(across - 30) ** 2 + (down - 24) ** 2 < 150] = (20, 30, 40)
    colours[44:54, 40:80] = (250, 240, 30)
    return colours.astype(np.uint8)


@functools.cache
def gray() -> NDArray[np.uint8]:
    """[H, W]; the same drawing in gray."""
    return (picture().astype(np.uint16).sum(axis=-1) // 3).astype(np.uint8)


@functools.cache
def alpha() -> NDArray[np.uint8]:
    """[H, W]; nothing at the left, half in the middle, all at the right."""
    steps = np.repeat(np.array([0, 128, 255], np.uint8), WIDTH // 3)
    return np.broadcast_to(steps, (HEIGHT, WIDTH)).copy()


def colours_of(samples: NDArray[np.uint8]) -> Colours:
    """Gray as RGB."""
    return np.repeat(samples[..., None], 3, axis=-1)


def over_white(colours: Colours, opacity: NDArray[np.uint8]) -> Colours:
    """What is seen through `opacity`, with white behind it."""
    part = opacity[..., None].astype(np.float64) / 255
    return np.rint(colours * part + 255 * (1 - part)).astype(np.uint8)


def levels(samples: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """The samples that are left of 8 bits when there are fewer, 0 to 2^bits - 1."""
    return samples >> 8 - bits


def from_levels(few: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """What such samples look like."""
    return (few.astype(np.uint16) * 255 // ((1 << bits) - 1)).astype(np.uint8)


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    """A file, as Pillow writes it."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def rgb() -> Image.Image:
    """The picture, for saved()."""
    return Image.fromarray(picture())


def with_alpha() -> Image.Image:
    """RGBA, likewise."""
    return Image.fromarray(np.dstack((picture(), alpha())))
