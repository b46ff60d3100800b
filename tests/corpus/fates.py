"""What became of a file of the corpus, held against what must become of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from tests.corpus.case import INDEXED, Case, Colours


class Seen(NamedTuple):
    """What a model was given of a picture, and the picture's size."""

    pixels: Colours  # [S, S, 3]
    width: int
    height: int


class Fate(NamedTuple):
    """What became of a case: INDEXED, PASSED_OVER, or the reason for which it was refused."""

    case: Case
    outcome: str
    problem: str = ""  # with what was seen of it

    @property
    def is_as_expected(self) -> bool:
        """Whether it is the case's own, and a viewer would show what was seen."""
        return self.outcome == self.case.fate and not self.problem


def fate_of(case: Case, outcome: str, seen: Seen | None = None) -> Fate:
    """What became of it, where something was seen of it or not."""
    if outcome != INDEXED or seen is None or case.shown is None:
        return Fate(case, outcome)
    shown = case.shown()
    if (seen.height, seen.width) != shown.shape[:2]:
        return Fate(case, outcome, f"{seen.width} x {seen.height} pixels, not {shown.shape[1::-1]}")
    apart = int(np.abs(seen.pixels.astype(int) - _square(shown, len(seen.pixels))).max())
    problem = f"{apart} levels from what is shown, at most {case.within}"
    return Fate(case, outcome, problem if apart > case.within else "")


def _square(shown: Colours, size: int) -> Colours:
    """What CLIP sees of colours, as its own preprocessing is described."""
    image = Image.fromarray(np.ascontiguousarray(shown))
    short = min(image.size)
    across, down = (int(size * side / short) for side in image.size)
    image = image.resize((across, down), Image.Resampling.BICUBIC)
    left, top = round((across - size) / 2), round((down - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)))
