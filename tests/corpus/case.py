"""One file of the corpus; which there are, the modules beside it say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Colours = NDArray[np.uint8]  # [H, W, 3], RGB

INDEXED = "INDEXED"
PASSED_OVER = "PASSED_OVER"


@dataclass(frozen=True)
class Case:
    """A file below the corpus' folder, and its fate."""

    name: str  # its path there
    make: Callable[[], bytes]
    fate: str = INDEXED  # or PASSED_OVER, or the reason for which it is refused
    shown: Callable[[], Colours] | None = None  # what a viewer shows; None: not looked at
    within: int = 0  # levels by which pixels may differ: 0, where nothing is lost or guessed


def refused(name: str, make: Callable[[], bytes], reason: str) -> Case:
    """A file that is sent, and comes back with that reason."""
    return Case(name, make, reason)
