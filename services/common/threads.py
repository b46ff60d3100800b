"""How long threads keep Python's lock from each other."""

from __future__ import annotations

import sys

_INTERVAL_S = 0.000_5


def hand_over_soon() -> None:
    """Has a thread that computes in Python hand the lock over after half a millisecond.

    Python's own 5 ms are waited at every step of all other threads: a call of the event loop has
    tens of them, a batch in the encoder hundreds, one or two for each operation of torch.
    """
    sys.setswitchinterval(_INTERVAL_S)
