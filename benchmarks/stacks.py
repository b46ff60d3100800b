"""What a benchmark runs on: a store, the services as processes, pictures; it measures nothing."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pymilvus import MilvusClient

from benchmarks.cpu_time import Usage
from demo import pictures
from glimpse.cli.local.stack import Stack, StackOptions
from glimpse.cli.ports import Ports
from glimpse.cli.probes import is_serving
from glimpse.cli.walk import find_pictures
from glimpse.client import Client
from glimpse.results import ImageFile, Outcome
from services.common.deadline import Deadline
from services.vectors.milvus.store import MilvusStore
from tests.backends import MilvusLite, MilvusServer, has_milvus_server
from tests.waiting import wait_until

OUTPUT = Path("build/bench").absolute()
STORES = ("milvus", "lite")

# What random weights see means nothing: int8 is as fast on them as on trained ones that it suits.
ANY_INT8 = {"ENCODER_MIN_INT8_NEIGHBOURS": "0"}

_START_TIMEOUT_S = 180.0
_LOOK_S = 0.02
_IDLE_LOOK_S = 1.0
_IDLE_SHARE = 0.2  # of one core; a Milvus server without any call takes half of that
_QUIET_LOOKS = 3  # in a row: a store looks for work every second or two


@contextlib.contextmanager
def running_store(kind: str) -> Iterator[str]:
    """A new, empty store of that kind; the value is its URI. Raises SystemExit if it cannot be."""
    with store_process(kind) as store:
        yield store.uri


@contextlib.contextmanager
def store_process(kind: str) -> Iterator[MilvusServer | MilvusLite]:
    """As running_store; the value is the process."""
    if kind == "milvus" and not has_milvus_server():
        raise SystemExit("there is no Milvus server here: run `make milvus-server`, or STORE=lite")
    folder = OUTPUT / f"store-{kind}"
    shutil.rmtree(folder, ignore_errors=True)
    store = MilvusServer(folder) if kind == "milvus" else MilvusLite(folder)
    store.start()
    try:
        asyncio.run(_wait_until_ready(store.uri))
        yield store
    finally:
        store.stop()  # its log stays, until the next run


@contextlib.contextmanager
def running_stack(
    milvus_uri: str,
    model: Path | str,
    environment: Mapping[str, str] | None = None,
    name: str = "stack",
) -> Iterator[Stack]:
    """Encoder, indexer and query on top of a store, in a folder of that name."""
    folder = OUTPUT / name
    shutil.rmtree(folder, ignore_errors=True)
    options = StackOptions(
        data=folder,
        model=str(model),
        milvus_uri=milvus_uri,
        ports=Ports.free(),
        environment={"ENCODER_ACTIVATION": "quick_gelu", **ANY_INT8, **(environment or {})},
        start_timeout_s=_START_TIMEOUT_S,
    )
    with Stack(options) as stack:
        yield stack


@contextlib.contextmanager
def running_process(
    arguments: Sequence[str], address: str, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[int, float]]:
    """`python -m arguments`, serving at `address`: its process id, and the seconds it took."""
    started_s = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env={**os.environ, **(environment or {})},
        stdout=subprocess.DEVNULL,
    )
    try:
        while not is_serving(address):
            if process.poll() is not None or time.perf_counter() - started_s > _START_TIMEOUT_S:
                raise RuntimeError(f"{arguments[0]} did not start at {address}")
            time.sleep(_LOOK_S)
        yield process.pid, time.perf_counter() - started_s
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def running_encoder(
    model: Path, environment: Mapping[str, str]
) -> Iterator[tuple[str, int, float]]:
    """An encoder alone: its address, its process id, and the seconds it took to serve."""
    ports = Ports.free()
    address = f"127.0.0.1:{ports.encoder}"
    settings = {
        "ENCODER_LISTEN": address,
        "ENCODER_METRICS_LISTEN": f"127.0.0.1:{ports.encoder_metrics}",
        "ENCODER_MODEL": str(model),
        "ENCODER_ACTIVATION": "quick_gelu",
        "ENCODER_LOG_LEVEL": "WARNING",
        **ANY_INT8,
    }
    with running_process(["services.encoder"], address, {**settings, **environment}) as started:
        yield address, *started


def end_on_sigterm() -> None:
    """Lets SIGTERM unwind the program, so that what it started is stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def wait_until_idle(timeout_s: float = 60.0) -> None:
    """Waits until the machine has next to nothing to do: a store goes on working after a bulk."""
    ends_at = time.monotonic() + timeout_s
    while time.monotonic() < ends_at:
        before = Usage.now({})
        time.sleep(_IDLE_LOOK_S)
        if Usage.now({}).machine_s - before.machine_s < _IDLE_SHARE * _IDLE_LOOK_S:
            return


def wait_until_quiet(pids: Mapping[str, int], timeout_s: float) -> bool:
    """Waits until these processes have next to nothing to do, whatever else the machine does; false
    where they had until then."""
    ends_at, quiet_looks = time.monotonic() + timeout_s, 0
    before = Usage.now(pids)
    while time.monotonic() < ends_at and quiet_looks < _QUIET_LOOKS:
        time.sleep(_IDLE_LOOK_S)
        after = Usage.now(pids)
        spent_s = sum(after.by_process_s.values()) - sum(before.by_process_s.values())
        quiet_looks = quiet_looks + 1 if spent_s < _IDLE_SHARE * _IDLE_LOOK_S else 0
        before = after
    return quiet_looks == _QUIET_LOOKS


def compact(milvus_uri: str, collections: Sequence[str]) -> None:
    """Has a Milvus server merge segments and index them now, which else it does minutes later."""
    milvus = MilvusClient(milvus_uri)
    try:
        jobs = [milvus.compact(name) for name in collections]
        wait_until(
            lambda: all(milvus.get_compaction_state(job) == "Completed" for job in jobs),
            f"Milvus did not compact {', '.join(collections)} in time",
            _START_TIMEOUT_S,
        )
    finally:
        milvus.close()


def peak_rss_mb(pid: int) -> float:
    """The most memory that a process has held resident so far, in 10^6 bytes."""
    return _status_kib(pid, "VmHWM") * 1024 / 1e6


def rss_mb(pid: int) -> float:
    """The memory that a process holds resident, in 10^6 bytes."""
    return _status_kib(pid, "VmRSS") * 1024 / 1e6


def picture_files(folder: str, count: int) -> list[Path]:
    """`count` pictures of a folder, or drawn ones where it is empty; fewer if there are fewer."""
    if folder:
        return [Path(found) for found in itertools.islice(find_pictures([folder]), count)]
    drawn = pictures.collection(OUTPUT / "pictures")
    # Every class has some, and a run of a few of them does not draw all.
    chosen = drawn[:: max(len(drawn) // count, 1)][:count]
    for _ in pictures.draw_missing(chosen):
        pass
    return [picture.path for picture in chosen]


class Ingesting:
    """Pictures streaming into a collection at full rate while the block runs, over and over."""

    def __init__(self, client: Client, collection: str, files: Sequence[Path]) -> None:
        self._ingest = client.index(collection, self._images(files), force=True, max_in_flight=96)
        self._stop = threading.Event()
        self._flows = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ingesting")
        self._started_s = 0.0
        self._counted = 0

    def __enter__(self) -> Ingesting:
        self._thread.start()
        if not self._flows.wait(_START_TIMEOUT_S):
            raise RuntimeError("no image was acknowledged")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def images_per_s(self) -> float:
        """Since the first acknowledgement."""
        return self._counted / (time.perf_counter() - self._started_s)

    def _run(self) -> None:
        for acknowledgement in self._ingest:
            if acknowledgement.outcome is Outcome.INDEXED:
                if self._flows.is_set():
                    self._counted += 1
                else:
                    self._started_s = time.perf_counter()
                    self._flows.set()
            if self._stop.is_set():
                break
        self._ingest.close()

    def _images(self, files: Sequence[Path]) -> Iterator[ImageFile]:
        for number in itertools.count():
            yield ImageFile(path=files[number % len(files)], id=f"ingesting/{number}")


async def _wait_until_ready(uri: str) -> None:
    store = MilvusStore(uri)
    try:
        await store.ready(deadline=Deadline(_START_TIMEOUT_S))
    finally:
        await store.close()


def _status_kib(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise KeyError(name)
