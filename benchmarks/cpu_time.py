"""Processor time by process while a load runs, from /proc."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_STEAL = 7  # of /proc/stat's columns after the name


@dataclass(frozen=True)
class Usage:
    """Processor seconds since the start: of processes, of the whole machine, and those stolen.

    `stolen_s` is what the machine, a virtual one, wanted and did not get.
    """

    by_process_s: dict[str, float]
    machine_s: float
    stolen_s: float

    @classmethod
    def now(cls, pids: Mapping[str, int]) -> Usage:
        """Of the named processes, each with all of its threads. Raises OSError for one gone."""
        ticks = [
            int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        ]
        idle = ticks[3] + ticks[4]
        return cls(
            {name: _process_s(pid) for name, pid in pids.items()},
            (sum(ticks[:_STEAL]) - idle) / _TICKS_PER_S,
            ticks[_STEAL] / _TICKS_PER_S,
        )

    def until(self, end: Usage, calls: int) -> dict[str, float]:
        """Milliseconds per call between here and `end`; "others" is what runs besides."""
        spent_s = {name: end.by_process_s[name] - s for name, s in self.by_process_s.items()}
        spent_s["others"] = end.machine_s - self.machine_s - sum(spent_s.values())
        spent_s["stolen"] = end.stolen_s - self.stolen_s
        return {name: round(1000 * s / max(calls, 1), 3) for name, s in spent_s.items()}


def _process_s(pid: int) -> float:
    # The name, in parentheses, may hold anything; user and system time are fields 14 and 15.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
