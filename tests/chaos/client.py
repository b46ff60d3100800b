"""`python -m tests.chaos.client INDEXER COLLECTION TOTAL < ACKNOWLEDGED`: the client to be killed.

It sends every picture below TOTAL (0: without end) but those whose numbers it is given, and writes
the number of each one that is acknowledged, on a line.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator

from glimpse import errors
from glimpse.client import Client
from glimpse.results import Acknowledgement, ImageFile, Outcome
from tests.chaos import pictures

MAX_IN_FLIGHT = 256
_PATIENCE_S = 600.0  # a Milvus that was killed may need minutes


def _images(total: int, acknowledged: set[int]) -> Iterator[ImageFile]:
    for number in range(total) if total else itertools.count():
        if number not in acknowledged:
            name = str(number)
            yield ImageFile(content=pictures.content(number), id=name, uri=f"chaos/{name}")


def _acknowledgements(
    client: Client, collection: str, total: int, acknowledged: set[int]
) -> Iterator[Acknowledgement]:
    while True:
        images = _images(total, acknowledged)
        try:
            yield from client.index(
                collection, images, max_in_flight=MAX_IN_FLIGHT, patience_s=_PATIENCE_S
            )
            return
        except errors.Unavailable:  # at the start: the indexer is being started, too
            continue


def main(indexer: str, collection: str, total: int) -> None:
    acknowledged = {int(line) for line in sys.stdin}
    with Client(indexer=indexer) as client:
        for acknowledgement in _acknowledgements(client, collection, total, acknowledged):
            if acknowledgement.outcome is Outcome.FAILED:
                raise RuntimeError(f"{acknowledgement.id} failed: {acknowledgement.error}")
            print(acknowledgement.id, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
