"""The indexer as a process, between an encoder that costs nothing and the store: memory and rate.

The encoder of these measurements is benchmarks.stub_encoder; `make bench-ingest` runs them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator

from benchmarks import pixmaps, stacks
from benchmarks.report import Bar, Figure
from glimpse.cli.local.stack import Stack
from glimpse.client import Client
from glimpse.results import ImageFile, Outcome

_MAX_RSS_MB = 600.0
_MAX_GROWTH = 1.1  # what "flat" means, from the first fifth of a stream to its end


class WritingBenchmark:
    """The measurement on an indexer with a stub encoder."""

    def __init__(self, options: argparse.Namespace, stack: Stack, client: Client) -> None:
        self.options = options
        self.stack = stack
        self.client = client
        self.details: dict[str, object] = {}

    def memory(self) -> list[Figure]:
        """The indexer's resident memory while images stream, and how fast they do."""
        pid = self.stack.processes["indexer"].pid
        count = self.options.stream
        early_mb = 0.0
        self.client.create_collection("stream")
        started_s = time.perf_counter()
        images = pixmaps.images(count, prefix="stream")
        for number, _ in enumerate(indexed(self.client, images, Outcome.INDEXED, "stream")):
            if number == count // 5:
                early_mb = stacks.rss_mb(pid)
        seconds = time.perf_counter() - started_s
        late_mb, peak_mb = stacks.rss_mb(pid), stacks.peak_rss_mb(pid)
        self.details |= {
            "streamed": count,
            "streamed_s": round(seconds, 1),
            "rss_mb_after_a_fifth": early_mb,
            "rss_mb_at_the_end": late_mb,
        }
        return [
            Figure(
                "stream_rows_per_s",
                "rows/s through gRPC, with small bitmaps and a stub encoder's process",
                count / seconds,
            ),
            Figure(
                "rss_mb",
                f"peak memory of the indexer, {count:,} images streamed, in 10^6 bytes",
                peak_mb,
                Bar("at most", _MAX_RSS_MB),
            ),
            Figure(
                "rss_growth",
                "memory at the stream's end ÷ after its first fifth",
                late_mb / early_mb,
                Bar("at most", _MAX_GROWTH),
            ),
        ]


def ingested_per_s(
    client: Client, images: Iterable[ImageFile], expected: Outcome, collection: str
) -> float:
    """Into a collection that is there, until the last acknowledgement: every row is stored."""
    started_s = last_s = time.perf_counter()
    count = 0
    for _ in indexed(client, images, expected, collection):
        last_s = time.perf_counter()
        count += 1
    return count / (last_s - started_s)


def indexed(
    client: Client, images: Iterable[ImageFile], expected: Outcome, collection: str
) -> Iterator[None]:
    """Once per acknowledgement; raises RuntimeError for one that is not as expected."""
    for acknowledgement in client.index(collection, images, create_collection=False):
        if acknowledgement.outcome is not expected:
            raise RuntimeError(f"not {expected.name}: {acknowledgement}")
        yield
