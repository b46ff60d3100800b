"""A chaos run: processes, faults at random moments, and what the store must hold at the end.

One thread drives it. Each client has a thread that only hands its lines over. Stop order: the
client, then the services, then the store.
"""

from __future__ import annotations

import asyncio
import hashlib
import queue
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGTERM

import numpy as np

from glimpse.cli.ports import free_ports
from glimpse.errors import GlimpseError
from glimpse.pictures.preprocess import decode
from glimpse.pictures.preprocessing import Preprocessing
from services.common.deadline import Deadline
from services.vectors.milvus.store import MilvusStore
from services.vectors.store import VectorStore
from tests.backends import MilvusLite, MilvusServer, Process
from tests.chaos import pictures
from tests.chaos.client import MAX_IN_FLIGHT
from tests.fakes import vector_of

COLLECTION = "chaos"
FREEZE = "freeze the store"
KILLS = ("encoder", "indexer", "store", "client")
_TIMEOUT_S = 5.0  # what the indexer gives its peers for one call, so that freezes outlast some
_MAX_FREEZE_S = 8.0
_NO_PROGRESS_S = 300.0
_LOOK_S = 1.0
_CHECKED_AT_ONCE = 500


@dataclass
class Outcome:
    """What was done, and what is wrong at the end; nothing, if all is well."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    images: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return sum(self.faults[name] for name in KILLS)

    def __str__(self) -> str:
        done = ", ".join(f"{name} {count}x" for name, count in sorted(self.faults.items()))
        ends = "\n  ".join(self.problems) or "each acknowledged, stored once, with its vector"
        return (
            f"seed {self.seed}: {self.kills} kills ({done}), {self.images:,} images, "
            f"{self.seconds:.0f} s: {ends}"
        )


class Client:
    """A client process, and the numbers that it has seen acknowledged, in `lines`; None at its end.

    The reading thread ends with the process.
    """

    def __init__(self, indexer: str, total: int, acknowledged: set[int], log: Path) -> None:
        arguments = ["tests.chaos.client", indexer, COLLECTION, str(total)]
        with log.open("ab") as log_file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log_file,
                text=True,
            )
        assert self._process.stdin is not None
        with self._process.stdin as skipped:
            skipped.writelines(f"{number}\n" for number in acknowledged)
        self.lines: queue.Queue[int | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, name="chaos-client")
        self._reader.start()

    def kill(self) -> int:
        """Ends it; returns its exit code, 0 if it had done its work."""
        self._process.kill()
        self._reader.join()
        return self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.put(int(line))
        self.lines.put(None)


class Chaos:
    """One run over a store of that kind ("lite" or "milvus") in a folder of its own."""

    def __init__(self, folder: Path, store: str, seed: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._random = random.Random(seed)
        self._outcome = Outcome(seed)
        self._store = (MilvusServer if store == "milvus" else MilvusLite)(folder / "store")
        encoder, indexer = (f"127.0.0.1:{port}" for port in free_ports(2))
        self._indexer = indexer
        self._processes: dict[str, Process] = {
            "store": self._store,
            "encoder": self._service("encoder", "tests.chaos.encoder", encoder.split(":")[1]),
            "indexer": self._service(
                "indexer",
                "services.indexer",
                INDEXER_LISTEN=indexer,
                INDEXER_METRICS_LISTEN="127.0.0.1:0",
                INDEXER_ENCODER=encoder,
                INDEXER_MILVUS_URI=self._store.uri,
                INDEXER_ENCODER_TIMEOUT_S=str(_TIMEOUT_S),
                INDEXER_MILVUS_TIMEOUT_S=str(_TIMEOUT_S),
                INDEXER_LOG_FORMAT="text",
            ),
        }
        self._client: Client | None = None
        self._acknowledged: set[int] = set()

    def run(self, faults: Mapping[str, int], images: int) -> Outcome:
        """Commits the faults, each of them so many times, while at least `images` stream."""
        started_s = time.monotonic()
        try:
            for process in self._processes.values():
                process.start()
            self._start_client(total=0)
            self._commit(faults, images)
            # The last client ends by itself. What clients have sent so far is less than this.
            self._cut_client()
            total = max(images, len(self._acknowledged) + MAX_IN_FLIGHT)
            self._start_client(total)
            while self._next_acknowledgement():
                pass
            self._outcome.problems += asyncio.run(self._problems(total))
            self._outcome.images = total
        finally:
            if self._client is not None:
                self._client.kill()
            for process in reversed(self._processes.values()):
                process.stop()
        self._outcome.seconds = time.monotonic() - started_s
        return self._outcome

    def _service(self, name: str, module: str, *arguments: str, **environment: str) -> Process:
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        root = str(Path(__file__).resolve().parents[2])
        return Process(
            [sys.executable, "-m", module, *arguments],
            folder,
            SIGTERM,
            environment | {"PYTHONPATH": root},
        )

    def _commit(self, faults: Mapping[str, int], images: int) -> None:
        left = [name for name, count in faults.items() for _ in range(count)]
        self._random.shuffle(left)
        gap = images // len(left)
        for name in left:
            # With no image in between, a fault meets the recovery from the one before.
            self._wait_for(self._random.choice([0, self._random.randint(1, 2 * gap)]))
            time.sleep(self._random.uniform(0.0, 0.3))  # not always just after an acknowledgement
            self._commit_one(name)
            self._outcome.faults[name] += 1

    def _commit_one(self, name: str) -> None:
        if name == "client":
            self._cut_client()
            self._start_client(total=0)
        elif name == FREEZE:
            self._store.freeze()
            time.sleep(self._random.uniform(0.5, _MAX_FREEZE_S))
            self._store.thaw()
        else:
            self._processes[name].kill()
            self._processes[name].start()

    def _start_client(self, total: int) -> None:
        log = self._folder / "client.txt"
        self._client = Client(self._indexer, total, self._acknowledged, log)

    def _cut_client(self) -> None:
        assert self._client is not None
        self._client.kill()
        while (number := self._client.lines.get()) is not None:
            self._acknowledged.add(number)

    def _wait_for(self, count: int) -> None:
        """Until `count` more images are acknowledged."""
        for _ in range(count):
            if not self._next_acknowledgement():
                raise AssertionError(f"the client ended; its log is in {self._folder}")

    def _next_acknowledgement(self) -> bool:
        """Waits for one; False when the client has done its work. Raises AssertionError."""
        assert self._client is not None
        ends_at = time.monotonic() + _NO_PROGRESS_S
        while time.monotonic() < ends_at:
            try:
                number = self._client.lines.get(timeout=_LOOK_S)
            except queue.Empty:
                self._look_after_processes()
                continue
            if number is None:
                code = self._client.kill()
                assert code == 0, f"the client failed; its log is in {self._folder}"
                return False
            self._acknowledged.add(number)
            return True
        raise AssertionError(f"nothing was acknowledged for {_NO_PROGRESS_S:.0f} s")

    def _look_after_processes(self) -> None:
        if not self._store.is_running:
            # A Milvus that was killed may refuse to start until its session has run out.
            self._store.start()
        for name in ("encoder", "indexer"):
            assert self._processes[name].is_running, f"{name} ended: see {self._folder / name}"

    async def _problems(self, total: int) -> list[str]:
        store = MilvusStore(self._store.uri)
        try:
            await store.ready(deadline=Deadline(_NO_PROGRESS_S))
            problems = [await self._wrong_count(store, total)]
            for start in range(0, total, _CHECKED_AT_ONCE):
                numbers = range(start, min(start + _CHECKED_AT_ONCE, total))
                problems += await self._wrong_rows(store, numbers)
        except GlimpseError as error:
            problems = [f"the store could not be read: {error}"]
        finally:
            await store.close()
        if missing := set(range(total)) - self._acknowledged:
            problems.append(f"{len(missing)} were not acknowledged, such as {min(missing)}")
        return [problem for problem in problems if problem]

    async def _wrong_count(self, store: VectorStore, total: int) -> str:
        """As all that were sent are looked up besides, this finds doubles and strangers."""
        count = await store.count(COLLECTION, deadline=Deadline(_NO_PROGRESS_S))
        return "" if count == total else f"{count} rows are there of {total} images"

    async def _wrong_rows(self, store: VectorStore, numbers: range) -> list[str]:
        fields = ("vector", "uri", "content_sha256")
        names = [str(number) for number in numbers]
        rows = await store.fetch(COLLECTION, names, fields, deadline=Deadline(_NO_PROGRESS_S))
        problems = [f"{name} is missing" for name in names if name not in rows]
        for name, row in rows.items():
            content = pictures.content(int(name))
            pixels = decode(content, Preprocessing(pictures.SIZE), pictures.SIZE**2).pixels
            expected = vector_of(pixels.tobytes(), pictures.DIMENSION)
            if not np.allclose(row["vector"], expected, atol=1e-5):
                problems.append(f"{name} has another vector")
            if (row["uri"], row["content_sha256"]) != (
                f"chaos/{name}",
                hashlib.sha256(content).hexdigest(),
            ):
                problems.append(f"{name} has other attributes")
        return problems
