"""Steady callers in a pod: some keep their client, some come and go, one has a stream of pictures.

    python caller.py [ROLE NUMBER]

Runs as a file, with what the client's package brings. Without arguments it starts all of them, each
a process with connections of its own, which ends once the file STOP is there. Each search is a line
of JSON, and so is what became of the pictures.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from glimpse import Client, ImageFile, Outcome
from glimpse.errors import GlimpseError, NotFound

QUERY = "dns:///query.glimpse.svc.cluster.local:50053"
INDEXER = "dns:///indexer.glimpse.svc.cluster.local:50052"
STOP = Path("/tmp/stop")

_SEARCHED, _INDEXED = "callers_searched", "callers_indexed"
_ROLES = (("search", "1"), ("search", "2"), ("search", "3"), ("visit", "1"), ("index", "1"))
_SEARCH_PAUSE_S = 0.25
# Who comes has the name resolved, and so sees to it that the cluster's DNS always has an answer in
# its cache, of any age: those who only come back when a connection has ended find stale ones.
_VISIT_PAUSE_S = 1.5
_PICTURE_PAUSE_S = 0.2
_SIDES = 50  # widths, and heights, of different pictures
_IDS = 500  # in one question
_PATIENCE_S = 180.0  # for pods that have just been deployed, and tokens that they have to read

_TLS, _TOKEN = Path("/glimpse/tls"), Path("/glimpse/token/token")


def connected() -> Client:
    """With a certificate and a token where there are some."""
    if not (_TLS / "tls.crt").exists():
        return Client(QUERY, INDEXER)
    return Client(
        QUERY,
        INDEXER,
        tls_ca=_TLS / "ca.crt",
        tls_cert=_TLS / "tls.crt",
        tls_key=_TLS / "tls.key",
        token=_TOKEN,
    )


def write(line: dict[str, object]) -> None:
    """At once, so that lines of processes do not mix."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def late_s(pause_s: float) -> float:
    """Pauses; how much longer that took than it should have: that is the machine's part."""
    begun_s = time.monotonic()
    time.sleep(pause_s)
    return time.monotonic() - begun_s - pause_s


def search(client: Client, caller: str, number: int, machine_late_s: float) -> None:
    begun_s, clock_s, error, service_s = time.time(), time.monotonic(), "", 0.0
    try:
        # A text that is in no cache, so that the encoder is asked.
        found = client.search(_SEARCHED, f"{caller} {number} {begun_s}", limit=3)
        service_s = found.timing.total_us / 1e6
    except GlimpseError as failure:
        error = f"{type(failure).__name__}: {failure}"
    write(
        {
            "begun_s": begun_s,
            "took_s": time.monotonic() - clock_s,
            "error": error,
            "caller": caller,
            "service_s": service_s,
            "machine_late_s": machine_late_s,
        }
    )


def search_on(caller: str) -> None:
    """With one client, and its connections."""
    with connected() as client:
        for number in itertools.count():
            machine_late_s = late_s(_SEARCH_PAUSE_S)
            if STOP.exists():
                return
            search(client, caller, number, machine_late_s)


def visit(caller: str) -> None:
    """With a new client for each search."""
    for number in itertools.count():
        machine_late_s = late_s(_VISIT_PAUSE_S)
        if STOP.exists():
            return
        with connected() as client:
            search(client, caller, number, machine_late_s)


class Ingester:
    """One stream, and what the collection has of it in the end."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._acknowledged: list[str] = []
        self._complaints: list[str] = []

    def run(self) -> None:
        try:
            for acknowledgement in self._client.index(_INDEXED, _pictures()):
                if acknowledgement.outcome is Outcome.FAILED:
                    self._complaints.append(f"{acknowledgement.id}: {acknowledgement.error}")
                else:
                    self._acknowledged.append(acknowledgement.id)
        except GlimpseError as failure:
            self._complaints.append(f"the stream ended: {failure}")
        write({"acknowledged": len(self._acknowledged), "wrong": self._wrong_pictures()})

    def _wrong_pictures(self) -> list[str]:
        """What was acknowledged and is not there, what is there twice, and what was refused."""
        starts = range(0, len(self._acknowledged), _IDS)
        batches = [self._acknowledged[start : start + _IDS] for start in starts]
        missing = [
            f"{name} is not there"
            for batch in batches
            for name in self._client.get_images(_INDEXED, batch, timeout_s=60).missing_ids
        ]
        rows = self._client.count_images(_INDEXED, timeout_s=60)
        surplus = rows - len(self._acknowledged) + len(missing)
        return [*self._complaints, *missing, *([f"{surplus} rows too many"] * abs(surplus))]


def _pictures(most: int | None = None) -> Iterator[ImageFile]:
    """Each another; as many, or until STOP is there."""
    for number in itertools.count():
        if STOP.exists() or number == most:
            return
        size = 8 + number % _SIDES, 8 + number // _SIDES % _SIDES
        file = io.BytesIO()
        Image.new("RGB", size, (number % 256, number // 256 % 256, 0)).save(file, "PNG")
        yield ImageFile(id=str(number), content=file.getvalue())
        if most is None:
            time.sleep(_PICTURE_PAUSE_S)


def run_all() -> int:
    """The worst exit code of all."""
    with connected() as client:
        _fill(client)
        command = [sys.executable, __file__]
        callers = [subprocess.Popen([*command, *role]) for role in _ROLES]
        exit_code = max(abs(caller.wait()) for caller in callers)
        _drop(client)
    return exit_code


def _drop(client: Client) -> None:
    for collection in (_SEARCHED, _INDEXED):
        with contextlib.suppress(NotFound):
            client.drop_collection(collection, timeout_s=60)


def _fill(client: Client) -> None:
    """A collection to be searched, as soon as that is allowed."""
    ends_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            _drop(client)  # what a run left that was broken off
            for acknowledgement in client.index(_SEARCHED, _pictures(20)):
                assert acknowledgement.outcome is not Outcome.FAILED, acknowledgement
            return
        except GlimpseError:
            if time.monotonic() > ends_s:
                raise
            time.sleep(1.0)


def main(arguments: list[str]) -> int:
    if not arguments:
        return run_all()
    role, number = arguments
    if role == "index":
        with connected() as client:
            Ingester(client).run()
    else:
        {"search": search_on, "visit": visit}[role](f"{role} {number}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
