"""A peer's worker as the parent sees it: a process that answers one job after the other."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks import stacks
from benchmarks.peers.catalogue import ROOT, Model, Peer
from benchmarks.peers.server import end, end_with_starter

# Compiling two towers takes minutes; a call of 32 images that takes one says enough.
_MAX_START_S, _MAX_JOB_S = 900.0, 60.0
_MAX_ALL_S = 600.0
_CLOSE_S = 5.0


class Loaded:
    """A peer's process. Raises RuntimeError wherever it takes too long, or ends early: then with
    what it wrote last."""

    def __init__(self, peer: Peer, python: Path, model: Model, threads: int) -> None:
        self._log = (stacks.OUTPUT / f"peer-{peer.name}.log").open("w+", encoding="utf-8")
        started_s = time.perf_counter()
        self._process = subprocess.Popen(
            [
                *(python, "-m", "benchmarks.peers.worker", peer.name),
                *map(str, (model.weights, model.folder, model.image_size, threads)),
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            preexec_fn=end_with_starter,
        )
        try:
            ready = self._answer(_MAX_START_S)
        except BaseException:  # an interrupt, too: nobody else would end it
            self.close()
            raise
        self.start_s: float = ready["start_s"] or time.perf_counter() - started_s
        self._pid: int = ready["pid"]

    def run(self, what: str, seconds: float) -> dict[str, Any]:
        return self._ask({"what": what, "seconds": seconds}, _MAX_JOB_S + seconds)

    def encode_all(self, folder: Path) -> None:
        """As Worker.encode_all."""
        self._ask({"what": "all", "folder": str(folder)}, _MAX_ALL_S)

    def _ask(self, job: dict[str, Any], max_s: float) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return self._answer(max_s)

    def peak_rss_mb(self) -> float:
        return stacks.peak_rss_mb(self._pid)

    def close(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_CLOSE_S)
        end(self._process)
        self._log.close()

    def _answer(self, max_s: float) -> dict[str, Any]:
        """The next line, of which there is never more than the one that was asked for."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], max_s)[0]:
            raise RuntimeError(f"it takes more than {max_s:.0f} s here")
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._process.wait()
        self._log.seek(0)
        said = self._log.read().strip().splitlines()
        raise RuntimeError(
            said[-1].removeprefix("RuntimeError: ") if said else "it ended without a word"
        )
