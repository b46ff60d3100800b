"""What the batcher needs of a device: batches become unit vectors, and how that may fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Payload = NDArray[np.int64] | NDArray[np.uint8]


class DeviceLost(Exception):
    """The device can compute nothing any more; only a new process helps."""


class Device(Protocol):
    """What the batcher drives from its worker thread, and from where `between` is called.

    Raises MemoryError where a smaller batch may pass, DeviceLost where nothing will any more.
    """

    def encode_tokens(self, texts: Sequence[NDArray[np.int64]], /) -> Vectors:
        """Unit vectors, float32 [N, D], of N texts given as token ids."""
        ...

    def encode_pixels(
        self, pixels: Sequence[NDArray[np.uint8]], between: Callable[[], None], /
    ) -> Vectors:
        """Unit vectors, float32 [N, D], of N images, uint8 [S, S, 3].

        Calls `between` between layers, on this thread or on several at once, and no more when it
        has returned.
        """
        ...
