"""Pixels of a folder's photographs, as many as are wanted: of few, several parts of each."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Left, top and side of a part, as shares of what is left of width and height, and of the lesser.
_PARTS = [(0.5, 0.5, 1.0)]
_PARTS += [(left, top, 0.6) for left, top in itertools.product((0.0, 1.0), repeat=2)]
_PARTS += [(0.5, 0.5, 0.4), (0.0, 0.5, 0.8), (1.0, 0.5, 0.8)]


class Photographs(NamedTuple):
    """Pixels, uint8 [N, side, side, 3], and the file of each, [N], by number."""

    pixels: NDArray[np.uint8]
    files: NDArray[np.int64]


def photographs(folder: Path, side: int, count: int) -> Photographs:
    """Whole ones first. Raises SystemExit where the folder has no photograph."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpeg", ".jpg"))
    if not paths:
        raise SystemExit(f"{folder} has no photograph: --images names a folder of JPEGs")
    wanted = list(itertools.islice(itertools.product(_PARTS, range(len(paths))), count))
    pixels = np.empty((len(wanted), side, side, 3), np.uint8)
    for number, path in enumerate(paths):
        with Image.open(path) as file:
            photograph = file.convert("RGB")
        for place, (part, of) in enumerate(wanted):
            if of == number:
                pixels[place] = _part(photograph, part, side)
    return Photographs(pixels, np.array([number for _, number in wanted]))


def _part(
    photograph: Image.Image, part: tuple[float, float, float], side: int
) -> NDArray[np.uint8]:
    left, top, share = part
    length = share * min(photograph.size)
    x, y = (
        place * (size - length) for place, size in zip((left, top), photograph.size, strict=True)
    )
    box = (x, y, x + length, y + length)
    return np.asarray(photograph.resize((side, side), Image.Resampling.BICUBIC, box=box))
