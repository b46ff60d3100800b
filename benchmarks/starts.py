"""How long an encoder takes to serve, and the most memory that it holds until then: at its first
start with some weights, and at later ones."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks import stacks
from benchmarks.report import Bar, Figure, Spread

_STARTS = 3


class Starts:
    """Encoders that were started, and stopped again; the first made what the others found."""

    def __init__(self, weights: Path, environment: Mapping[str, str]) -> None:
        cache = stacks.OUTPUT / "encoder-cache"
        shutil.rmtree(cache, ignore_errors=True)
        self._weights = weights
        self.environment = {**environment, "ENCODER_CACHE_DIR": str(cache)}
        self._first = self._start()
        self._later = [self._start() for _ in range(_STARTS)]
        self._import_s = [_seconds_to_import_torch() for _ in range(_STARTS)]

    def figures(self) -> list[Figure]:
        start_s = [seconds for seconds, _ in self._later]
        return [
            Figure(
                "start_s",
                "seconds from process start to SERVING",
                statistics.median(start_s),
                spread=Spread.of(start_s),
            ),
            Figure(
                "start_ratio",
                "those seconds ÷ importing torch alone, in a process",
                statistics.median(start_s) / statistics.median(self._import_s),
                Bar("at most", 2.5),
            ),
            Figure("first_start_s", "start_s of the first start with the weights", self._first[0]),
            Figure("first_rss_mb", "its peak resident memory, in 10^6 bytes", self._first[1]),
        ]

    def _start(self) -> tuple[float, float]:
        with stacks.running_encoder(self._weights, self.environment) as (_, pid, start_s):
            return start_s, stacks.peak_rss_mb(pid)


def _seconds_to_import_torch() -> float:
    started_s = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return time.perf_counter() - started_s
