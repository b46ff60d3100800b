"""Replaces query and indexer again and again under load, and counts what glimpse.Client sees fail.

    python -m tests.robustness.rolling [--restarts 20]

Each has two replicas, replaced as a Deployment with maxSurge 1 and maxUnavailable 0 does it: a new
process on another address, which has to be SERVING before an old one gets SIGTERM. The client
knows all addresses, as by a name that they all stand under. The encoder computes nothing,
the store is Milvus Lite.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, field
from functools import partial
from pathlib import Path

from glimpse import Client, ImageFile, Outcome
from glimpse.cli.ports import HOST, Ports
from glimpse.cli.probes import is_milvus_ready, is_serving
from tests.backends import MilvusLite
from tests.robustness.messages import picture
from tests.waiting import wait_until

_STOP_TIMEOUT_S = 120.0
_DRAIN_S = 0.2
_IMAGE_SIZE = 32
_COLLECTION = "pictures"
_PICTURES = 2_000
# The replicas that start need the processor as well, and Milvus Lite, which writes and searches in
# one process, has to get to the searches.
_PAUSE_S = 0.005
_PICTURE_PAUSE_S = 0.05


class Replica:
    """One process of a service, which has an address of its own as a pod has."""

    def __init__(self, service: str, port: int, folder: Path, settings: dict[str, str]) -> None:
        self.port = port
        prefix = service.upper()
        environment = {
            f"{prefix}_LISTEN": f"{HOST}:{port}",
            f"{prefix}_METRICS_LISTEN": f"{HOST}:0",
            f"{prefix}_DRAIN_S": str(_DRAIN_S),
            f"{prefix}_LOG_FORMAT": "text",
            **{f"{prefix}_{name}": value for name, value in settings.items()},
        }
        with (folder / f"{service}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"services.{service}"],
                env=os.environ | environment,
                stdout=log,
                stderr=log,
            )

    def await_serving(self) -> None:
        address = f"{HOST}:{self.port}"
        wait_until(lambda: is_serving(address), f"nobody serves at {address}")

    def stop(self) -> int:
        """Its exit code after SIGTERM."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(_STOP_TIMEOUT_S)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Deployment:
    """Some replicas of one service, each on an address of its own, and an address to spare."""

    def __init__(self, service: str, folder: Path, settings: dict[str, str], replicas: int) -> None:
        self._service, self._folder, self._settings = service, folder, settings
        self._ports = deque(astuple(Ports.free())[: replicas + 1])
        self.target = "ipv4:" + ",".join(f"{HOST}:{port}" for port in self._ports)
        self._replicas = deque(self._started() for _ in range(replicas))

    def await_serving(self) -> None:
        for replica in self._replicas:
            replica.await_serving()

    def roll(self) -> None:
        """Replaces the older replica; raises if it does not end with 0."""
        new = self._started()
        self._replicas.append(new)
        new.await_serving()
        old = self._replicas[0]
        exit_code = old.stop()
        self._replicas.popleft()
        self._ports.append(old.port)
        if exit_code:
            raise AssertionError(f"{self._service} ended with {exit_code}")

    def close(self) -> None:
        for replica in self._replicas:
            replica.kill()

    def _started(self) -> Replica:
        return Replica(self._service, self._ports.popleft(), self._folder, self._settings)


@dataclass
class Load:
    """What was called until now, by the threads that call."""

    calls: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    interruptions: int = 0
    """How often the stream of pictures was cut, and went on in another one."""
    stopped: threading.Event = field(default_factory=threading.Event)

    def repeat(self, name: str, call: Callable[[int], None]) -> None:
        """Calls again and again, with a number."""
        number = 0
        while not self.stopped.wait(_PAUSE_S):
            try:
                call(number)
                self.calls[name] += 1
            except Exception as error:
                self.failures.append(f"{name}: {error!r}")
            number += 1


def search(client: Client, number: int) -> None:
    """One search with a new text, which the encoder has to be asked for."""
    client.search(_COLLECTION, f"{threading.get_ident()} {number}", limit=3)


def look_up(client: Client, number: int) -> None:
    """One call of the indexer with one answer."""
    client.collections()


def index(client: Client, load: Load) -> None:
    """One ingest from beginning to end, so that hardly a restart finds no stream to cut."""
    try:
        with client.index(_COLLECTION, _pictures(load.stopped)) as ingest:
            for acknowledgement in ingest:
                load.calls["pictures"] += 1
                if acknowledgement.outcome is Outcome.FAILED:
                    load.failures.append(f"pictures: {acknowledgement.error!r}")
            load.interruptions = ingest.interruptions
    except Exception as error:
        load.failures.append(f"pictures: {error!r}")


def _pictures(stopped: threading.Event) -> Iterator[ImageFile]:
    """The same thousands again and again, since a store that grows would search ever slower."""
    for number in itertools.cycle(range(_PICTURES)):
        if stopped.wait(_PICTURE_PAUSE_S):
            return
        width, height = 8 + number % 50, 8 + number // 50
        yield ImageFile(id=f"{number}", content=picture(width, height))


@contextlib.contextmanager
def peers(folder: Path) -> Iterator[dict[str, str]]:
    """Milvus Lite and an encoder; what both services have to be told of them."""
    milvus = MilvusLite(folder / "milvus")
    port = Ports.free().encoder
    milvus.start()
    encoder = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.stub_encoder", str(port), str(_IMAGE_SIZE)]
    )
    try:
        wait_until(lambda: is_serving(f"{HOST}:{port}"), "the encoder does not serve")
        wait_until(lambda: is_milvus_ready(milvus.uri), "Milvus Lite does not answer")
        yield {"ENCODER": f"{HOST}:{port}", "MILVUS_URI": milvus.uri}
    finally:
        encoder.kill()
        encoder.wait()
        milvus.stop()


def roll(folder: Path, restarts: int, replicas: int = 2) -> Load:
    """Replaces a query and an indexer `restarts` times under load; what that did to the load."""
    load = Load()
    with peers(folder) as settings, contextlib.ExitStack() as stack:
        deployments = [
            Deployment(name, folder, settings, replicas) for name in ("query", "indexer")
        ]
        for deployment in deployments:
            stack.callback(deployment.close)
        for deployment in deployments:
            deployment.await_serving()
        pool = stack.enter_context(ThreadPoolExecutor(len(deployments)))
        client = stack.enter_context(Client(*(each.target for each in deployments)))
        client.create_collection(_COLLECTION)
        threads = [
            threading.Thread(target=load.repeat, args=("searches", partial(search, client))),
            threading.Thread(target=load.repeat, args=("searches", partial(search, client))),
            threading.Thread(target=load.repeat, args=("look-ups", partial(look_up, client))),
            threading.Thread(target=index, args=(client, load)),
        ]
        for thread in threads:
            thread.start()
        try:
            for _ in range(restarts):
                rolls = [pool.submit(deployment.roll) for deployment in deployments]
                for each in rolls:
                    each.result()
        finally:
            load.stopped.set()
            for thread in threads:
                thread.join()
    return load


def main() -> int:
    """Prints what was called and what failed; 0 if nothing did."""
    parser = argparse.ArgumentParser(prog="python -m tests.robustness.rolling")
    parser.add_argument("--restarts", type=int, default=20, help="of query and of indexer, each")
    options = parser.parse_args()
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="glimpse-rolling-") as folder:
        load = roll(Path(folder), options.restarts)
    took_s = time.monotonic() - started_s
    calls = ", ".join(f"{count:,} {name}" for name, count in load.calls.items())
    print(f"{options.restarts} restarts of query and of indexer each, in {took_s:.0f} s: {calls}")
    print(f"stream cut and resumed: {load.interruptions} times; failures: {len(load.failures)}")
    for failure in load.failures[:20]:
        print(failure, file=sys.stderr)
    return 1 if load.failures else 0


if __name__ == "__main__":
    sys.exit(main())
