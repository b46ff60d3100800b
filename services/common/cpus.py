"""How many CPUs this process may use; what arithmetic they have is services.encoder.hardware's."""

from __future__ import annotations

import math
import os
from pathlib import Path


def usable_cpus(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """CPUs that this process may use: its affinity, or a container's quota where that is less.

    torch counts the machine's CPUs and would start that many threads inside a small container.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        limit_us, period_us = quota.read_text(encoding="ascii").split()
        cpus = min(cpus, math.ceil(int(limit_us) / int(period_us)))
    except (OSError, ValueError):  # no such file, or "max": no quota
        pass
    return max(cpus, 1)
