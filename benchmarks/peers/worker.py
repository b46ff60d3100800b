"""One peer in its own environment, measured when the parent asks: `… worker PEER MODEL THREADS`.

Reads one job per line, as JSON, and answers each with a line; the first line says that it is ready.
MODEL is three arguments: weights, the folder of what was made of them, the side of its pictures.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.peers.backend import Backend
from benchmarks.peers.catalogue import PEERS, Model
from benchmarks.texts import new_texts


@dataclass(frozen=True)
class Job:
    """images, texts: the rate, by as many callers and as much per call as the peer is best at;
    text: one caller, one text at a time."""

    what: Literal["images", "texts", "text"]
    seconds: float


@dataclass(frozen=True)
class Result:
    """items_per_s, and each call's latency."""

    items_per_s: float
    latencies_ms: list[float]


class Worker:
    """The peer, and what it is sent: always new texts, the same few batches of noise."""

    def __init__(self, backend: Backend, image_size: int) -> None:
        self._backend = backend
        self._texts = new_texts(seed=11)
        self._lock = threading.Lock()
        shape = (backend.images_per_call, image_size, image_size, 3)
        self._pixels = np.random.default_rng(12).integers(0, 256, shape, dtype=np.uint8)

    def run(self, job: Job) -> Result:
        backend = self._backend
        if job.what == "images":
            return self._measure(
                lambda: backend.encode_images(self._pixels),
                backend.images_per_call,
                backend.callers.images,
                job.seconds,
            )
        count, callers = 1, 1
        if job.what == "texts":
            count, callers = backend.texts_per_call, backend.callers.texts
        return self._measure(
            lambda: backend.encode_texts(self._some_texts(count)), count, callers, job.seconds
        )

    def encode_all(self, folder: Path) -> None:
        """Vectors of the folder's pixels.npy and texts.json, as images.npy and texts.npy there."""
        backend, size = self._backend, self._backend.images_per_call
        pixels = np.load(folder / "pixels.npy")
        texts = json.loads((folder / "texts.json").read_text())
        parts = [pixels[first : first + size] for first in range(0, len(pixels), size)]
        images = [backend.vectors(backend.encode_images(part)) for part in parts]
        np.save(folder / "images.npy", np.concatenate(images))
        found = [backend.vectors(backend.encode_texts([text])) for text in texts]
        np.save(folder / "texts.npy", np.concatenate(found))

    def _some_texts(self, count: int) -> list[str]:
        with self._lock:
            return [next(self._texts) for _ in range(count)]

    def _measure(
        self, call: Callable[[], object], items: int, callers: int, seconds: float
    ) -> Result:
        latencies_ms: list[float] = []
        failures: list[Exception] = []
        started_s = time.perf_counter()

        def call_on() -> None:
            try:
                while time.perf_counter() - started_s < seconds:
                    call_started_s = time.perf_counter()
                    call()
                    latencies_ms.append((time.perf_counter() - call_started_s) * 1000)
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=call_on) for _ in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        spent_s = time.perf_counter() - started_s
        return Result(items * len(latencies_ms) / spent_s, latencies_ms)


def _lines() -> Iterator[str]:
    while line := sys.stdin.readline():
        yield line


def main() -> None:
    """Loads the peer named on the command line, and serves jobs until standard input ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what the peer has started ends, too
    name, weights, folder, image_size, threads = sys.argv[1:]
    output = sys.stdout
    sys.stdout = sys.stderr  # some packages print
    model = Model(Path(weights), Path(folder), int(image_size))
    backend = PEERS[name].load(model, int(threads))
    try:
        worker = Worker(backend, model.image_size)
        for what in ("images", "texts"):
            worker.run(Job(what, 0.01))
        ready = {"pid": backend.server_pid or os.getpid(), "start_s": backend.start_s}
        print(json.dumps(ready), file=output, flush=True)
        for line in _lines():
            job = json.loads(line)
            if job["what"] == "all":
                worker.encode_all(Path(job["folder"]))
                result = {}
            else:
                result = asdict(worker.run(Job(**job)))
            print(json.dumps(result), file=output, flush=True)
    finally:
        backend.close()


if __name__ == "__main__":
    main()
