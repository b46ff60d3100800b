"""How long to wait before another try: doubling, spread so that callers do not meet again."""

from __future__ import annotations

import random

FIRST_S = 0.1
MAX_S = 5.0


def backoff_s(attempt: int, first_s: float = FIRST_S, max_s: float = MAX_S) -> float:
    """Seconds before the try that follows `attempt` failed ones (1 or more).

    Between half and all of first_s * 2^(attempt - 1), which `max_s` bounds.
    """
    longest_s = min(max_s, first_s * 2.0 ** min(attempt - 1, 32))
    return longest_s * random.uniform(0.5, 1.0)  # noqa: S311 (no secret)
