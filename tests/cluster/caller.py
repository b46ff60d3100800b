"""Steady callers in a pod: two that search for new texts, and one stream of pictures.

Runs as a file, with what the client's package brings. Writes each search as a line of JSON, and
what became of the pictures as the last line, once the file STOP is there.
"""

from __future__ import annotations

import io
import itertools
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from glimpse import Client, ImageFile, Outcome
from glimpse.errors import GlimpseError

QUERY = "dns:///query.glimpse.svc.cluster.local:50053"
INDEXER = "dns:///indexer.glimpse.svc.cluster.local:50052"
COLLECTION = f"callers_{int(time.time())}"
STOP = Path("/tmp/stop")

_SEARCH_PAUSE_S = 0.1
_PICTURE_PAUSE_S = 0.1
_SIDES = 50  # widths, and heights, of different pictures
_IDS = 500  # in one question


class Callers:
    """Three threads, until STOP is there."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._acknowledged: list[str] = []
        self._complaints: list[str] = []

    def run(self) -> None:
        self._client.create_collection(COLLECTION, timeout_s=60)
        threads = [threading.Thread(target=self._search, args=(number,)) for number in range(2)]
        threads.append(threading.Thread(target=self._index))
        for thread in threads:
            thread.start()
        while not STOP.exists():
            time.sleep(0.1)
        self._stopped.set()
        for thread in threads:
            thread.join()
        self._write({"acknowledged": len(self._acknowledged), "wrong": self._wrong_pictures()})
        self._client.drop_collection(COLLECTION, timeout_s=60)

    def _write(self, line: dict[str, object]) -> None:
        with self._lock:
            print(json.dumps(line), flush=True)

    def _search(self, caller: int) -> None:
        for number in itertools.count():
            if self._stopped.wait(_SEARCH_PAUSE_S):
                return
            begun_s, clock_s, error = time.time(), time.monotonic(), ""
            try:
                # A text that is in no cache, so that the encoder is asked.
                self._client.search(COLLECTION, f"{caller} {number} {begun_s}", limit=3)
            except GlimpseError as failure:
                error = f"{type(failure).__name__}: {failure}"
            took_s = time.monotonic() - clock_s
            self._write({"begun_s": begun_s, "took_s": took_s, "error": error})

    def _index(self) -> None:
        try:
            for acknowledgement in self._client.index(COLLECTION, self._pictures()):
                if acknowledgement.outcome is Outcome.FAILED:
                    self._complaints.append(f"{acknowledgement.id}: {acknowledgement.error}")
                else:
                    self._acknowledged.append(acknowledgement.id)
        except GlimpseError as failure:
            self._complaints.append(f"the stream ended: {failure}")

    def _pictures(self) -> Iterator[ImageFile]:
        for number in itertools.count():
            if self._stopped.wait(_PICTURE_PAUSE_S):
                return
            size = 8 + number % _SIDES, 8 + number // _SIDES % _SIDES
            file = io.BytesIO()
            Image.new("RGB", size, (number % 256, 0, 0)).save(file, "PNG")
            yield ImageFile(id=str(number), content=file.getvalue())

    def _wrong_pictures(self) -> list[str]:
        """What was acknowledged and is not there, what is there twice, and what was refused."""
        starts = range(0, len(self._acknowledged), _IDS)
        batches = [self._acknowledged[start : start + _IDS] for start in starts]
        missing = [
            f"{name} is not there"
            for batch in batches
            for name in self._client.get_images(COLLECTION, batch, timeout_s=60).missing_ids
        ]
        rows = self._client.count_images(COLLECTION, timeout_s=60)
        surplus = rows - len(self._acknowledged) + len(missing)
        return [*self._complaints, *missing, *([f"{surplus} rows too many"] * abs(surplus))]


if __name__ == "__main__":
    with Client(QUERY, INDEXER) as client:
        Callers(client).run()
