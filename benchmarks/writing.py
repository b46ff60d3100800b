"""The indexer alone, between an encoder that costs nothing and the store: rows per second, memory.

The encoder of these measurements is benchmarks.stub_encoder; `make bench-ingest` runs them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator

from benchmarks import pixmaps, stacks
from benchmarks.report import Bar, Figure, Spread
from benchmarks.tutorial import connect
from benchmarks.vectors import clustered
from glimpse.cli.stack import Stack
from glimpse.client import Client
from glimpse.results import ImageFile, Outcome
from services.vectors import schema
from services.vectors.store import Row

_DIMENSION = 512
_BARE = "bare"
_UPSERT_ROWS = 1_000
_MAX_RSS_MB = 600.0
_MAX_GROWTH = 1.1  # what "flat" means, from the first fifth of a stream to its end


class WritingBenchmark:
    """The measurements on an indexer with a stub encoder; each returns figures."""

    def __init__(self, options: argparse.Namespace, stack: Stack, client: Client) -> None:
        self.options = options
        self.stack = stack
        self.client = client
        self.details: dict[str, object] = {}

    def rows(self) -> list[Figure]:
        """Rows per second in turn: through the indexer, and by pymilvus alone."""
        rates, bare_rates = [], []
        for number in range(self.options.rounds):
            name = f"rows{number}"
            self.client.create_collection(name)
            images = pixmaps.images(self.options.rows, prefix=name)
            rates.append(ingested_per_s(self.client, images, Outcome.INDEXED, name))
            bare_rates.append(self._bare_rows_per_s())
        shares = Spread.of([ours / bare for ours, bare in zip(rates, bare_rates, strict=True)])
        self.details |= {
            "rows_per_s": rates,
            "bare_rows_per_s": bare_rates,
            "share_of_bare": shares.median,
        }
        return [
            Figure(
                "rows_per_s",
                "rows/s through the indexer with a stub encoder",
                Spread.of(rates).median,
                spread=Spread.of(rates),
            ),
            Figure(
                "share_of_bare",
                "rows_per_s ÷ rows/s of bare pymilvus upserts",
                shares.median,
                Bar("at least", 0.6),
                shares,
            ),
        ]

    def memory(self) -> list[Figure]:
        """The indexer's resident memory while images stream."""
        pid = self.stack.processes["indexer"].pid
        count = self.options.stream
        early_mb = 0.0
        self.client.create_collection("stream")
        started_s = time.perf_counter()
        images = pixmaps.images(count, prefix="stream")
        for number, _ in enumerate(indexed(self.client, images, Outcome.INDEXED, "stream")):
            if number == count // 5:
                early_mb = stacks.rss_mb(pid)
        late_mb, peak_mb = stacks.rss_mb(pid), stacks.peak_rss_mb(pid)
        self.details |= {
            "streamed": count,
            "streamed_s": round(time.perf_counter() - started_s, 1),
            "rss_mb_after_a_fifth": early_mb,
            "rss_mb_at_the_end": late_mb,
        }
        return [
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

    def _bare_rows_per_s(self) -> float:
        """The same rows by pymilvus alone, into a collection of the same kind."""
        entities = [
            schema.entity_of(Row(id=f"bare/{number}", vector=vector, uri=f"bare/{number}"))
            for number, vector in enumerate(clustered(self.options.rows, _DIMENSION, seed=5))
        ]
        self.client.create_collection(_BARE)
        milvus = connect(self.stack.milvus_uri)
        started_s = time.perf_counter()
        for start in range(0, len(entities), _UPSERT_ROWS):
            milvus.upsert(_BARE, entities[start : start + _UPSERT_ROWS])
        seconds = time.perf_counter() - started_s
        milvus.close()
        self.client.drop_collection(_BARE)
        return len(entities) / seconds


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
