"""What attacks leave behind: memory, and lines in logs; what they do meanwhile is watch.py's."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.robustness.fuzz import Victim

SETTLE_LOOKS = 64
"""Services look for free memory every five seconds, from ten seconds after a large message on."""

_LOOK_S = 0.25


def settled_bytes(victims: Sequence[Victim], look_count: int) -> dict[str, int]:
    """What each holds once it has let go of what it will: the least of some looks."""
    looks: dict[str, list[int]] = {victim.name: [] for victim in victims}
    for _ in range(look_count):
        for victim in victims:
            looks[victim.name].append(victim.resident_bytes)
        time.sleep(_LOOK_S)  # there is nothing to wait on: it is seen from outside
    return {name: min(values) for name, values in looks.items()}


def strange_lines(log: Path) -> list[str]:
    """Errors, tracebacks, and lines that are no JSON, which the service itself has not written."""
    strange: Counter[str] = Counter()
    with log.open(errors="replace") as lines:
        for line in lines:
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                strange[f"a line that is no JSON, such as {line[:200]!r}"] += 1
                continue
            if record.get("exc_info") or record.get("level") in ("ERROR", "CRITICAL"):
                strange[f"{record.get('level')} {record.get('message', '')[:200]}"] += 1
    return [f"{log}: {what}, {count} times" for what, count in strange.items()]
