"""`make bench-ingest`: pictures per second from file to stored row, beside the tutorial's loop.

First the whole stack with a model in the shape of ViT-B/32, then the indexer alone, between an
encoder that costs nothing and the store: how many rows it can write, and in how much memory.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks import machine, pixmaps, stacks
from benchmarks.generator import Generator, Job
from benchmarks.report import Bar, Figure, Report, Spread
from benchmarks.tutorial import Tutorial, connect
from benchmarks.vectors import clustered
from benchmarks.weights import random_vit_b_32
from glimpse.cli.console import say
from glimpse.cli.ports import Ports
from glimpse.cli.stack import Stack
from glimpse.client import Client
from glimpse.results import ImageFile, Outcome
from services.common.preprocess import decode
from services.encoder.hardware import usable_cpus
from services.vectors import schema
from services.vectors.store import CollectionSpec, Row, open_store

_COLLECTION, _BARE = "bench", "bare"
_IMAGE_SIZE, _DIMENSION = 224, 512
_MAX_PIXELS = 50_000_000
_ENCODE_BATCH, _ENCODE_CALLS = 32, 4  # the indexer's own defaults
_UPSERT_ROWS = 1_000
_MAX_RSS_MB = 600.0
_MAX_GROWTH = 1.1  # what "flat" means, from the first fifth of a stream to its end


class IngestBenchmark:
    """The measurements on the whole stack; each returns figures."""

    def __init__(self, options: argparse.Namespace, files: Sequence[Path], client: Client) -> None:
        self.files = files
        self.options = options
        self.client = client
        self.details: dict[str, object] = {}
        self._round = 0

    def end_to_end(self, generator: Generator, tutorial: Tutorial) -> list[Figure]:
        """Rates in turn: encoder from pixels, decoding, ours, the tutorial's, ours once more."""
        shares, ratios, reruns, rounds = [], [], [], []
        for _ in range(self.options.rounds):
            encoder_per_s = self._encoder_per_s(generator)
            decode_s = self._decode_s()
            ours_per_s = self._ours_per_s()
            tutorial_per_s = self._tutorial_per_s(tutorial)
            rerun_per_s = self._rerun_per_s()
            best_per_s = 1 / (1 / encoder_per_s + decode_s / usable_cpus())
            shares.append(ours_per_s / best_per_s)
            ratios.append(ours_per_s / tutorial_per_s)
            reruns.append(rerun_per_s / ours_per_s)
            rounds.append(
                {
                    "encoder_per_s": round(encoder_per_s, 2),
                    "decode_ms": round(decode_s * 1000, 3),
                    "best_per_s": round(best_per_s, 2),
                    "ours_per_s": round(ours_per_s, 2),
                    "tutorial_per_s": round(tutorial_per_s, 2),
                    "rerun_per_s": round(rerun_per_s, 1),
                }
            )
        self.details["rounds"] = rounds
        share, ratio, rerun = Spread.of(shares), Spread.of(ratios), Spread.of(reruns)
        return [
            Figure(
                "share_of_encoder",
                "images/s end to end ÷ 1 ÷ (1 ÷ encoder's images/s + decode s ÷ cores)",
                share.median,
                Bar("at least", 0.85),
                share,
            ),
            Figure(
                "ratio_vs_tutorial",
                "images/s end to end ÷ tutorial's loop with its single insert",
                ratio.median,
                Bar("at least", 7),
                ratio,
            ),
            Figure(
                "rerun_ratio",
                "images/s of a second run over unchanged images ÷ the first run's",
                rerun.median,
                Bar("at least", 20),
                rerun,
            ),
        ]

    def _encoder_per_s(self, generator: Generator) -> float:
        job = Job("encode_pixels", self.options.seconds, callers=_ENCODE_CALLS, size=_ENCODE_BATCH)
        return generator.run(job).per_s * _ENCODE_BATCH

    def _decode_s(self) -> float:
        """Of one picture, on one core."""
        contents = [path.read_bytes() for path in self.files]
        started_s = time.perf_counter()
        for content in contents:
            decode(content, _IMAGE_SIZE, _MAX_PIXELS)
        return (time.perf_counter() - started_s) / len(contents)

    def _ours_per_s(self) -> float:
        self._round += 1
        return _ingested_per_s(self.client, self._images(), Outcome.INDEXED)

    def _rerun_per_s(self) -> float:
        return _ingested_per_s(self.client, self._images(), Outcome.UNCHANGED)

    def _images(self) -> list[ImageFile]:
        return [
            ImageFile(path=path, id=f"round{self._round}/{number}")
            for number, path in enumerate(self.files)
        ]

    def _tutorial_per_s(self, tutorial: Tutorial) -> float:
        files = itertools.cycle(self.files)
        started_s = time.perf_counter()
        for count in itertools.count(1):
            tutorial.insert(next(files))
            seconds = time.perf_counter() - started_s
            if seconds > self.options.seconds:
                return count / seconds
        raise AssertionError("count never ends")


def measure_alone(
    stack: Stack, options: argparse.Namespace
) -> tuple[list[Figure], dict[str, object]]:
    """The indexer between a stub of an encoder and the store: rows per second, and memory."""
    client = Client(stack.query, stack.indexer, timeout_s=60)
    with client:
        rates, bare_rates = [], []
        for number in range(options.rounds):
            images = pixmaps.images(options.rows, prefix=f"rows{number}")
            rates.append(_ingested_per_s(client, images, Outcome.INDEXED, f"rows{number}"))
            bare_rates.append(_bare_rows_per_s(stack.milvus_uri, options.rows))
        pid = stack.processes["indexer"].pid
        images = pixmaps.images(options.stream, prefix="stream")
        early_mb = 0.0
        for count, acknowledgement in enumerate(client.index("stream", images), start=1):
            if acknowledgement.outcome is not Outcome.INDEXED:
                raise RuntimeError(f"an image was not indexed: {acknowledgement}")
            if count == options.stream // 5:
                early_mb = stacks.rss_mb(pid)
        late_mb, peak_mb = stacks.rss_mb(pid), stacks.peak_rss_mb(pid)
    shares = Spread.of([ours / bare for ours, bare in zip(rates, bare_rates, strict=True)])
    rate = Spread.of(rates)
    details = {
        "rows_per_s": rates,
        "bare_rows_per_s": bare_rates,
        "share_of_bare": shares.median,
        "streamed": options.stream,
        "rss_mb_after_a_fifth": early_mb,
        "rss_mb_at_the_end": late_mb,
    }
    is_flat = late_mb <= _MAX_GROWTH * early_mb
    figures = [
        Figure(
            "rss_mb",
            f"peak memory of the indexer, {options.stream:,} images streamed, in 10^6 bytes; "
            f"{'flat' if is_flat else 'NOT flat'}: {early_mb:.0f} after a fifth, {late_mb:.0f} "
            "at the end",
            peak_mb,
            Bar("at most", _MAX_RSS_MB),
        ),
        Figure(
            "rows_per_s",
            f"rows/s through the indexer with a stub encoder, {shares.median:.0%} of bare upserts "
            "(bar: 60% of them)",
            rate.median,
            Bar("at least", 0.6 * Spread.of(bare_rates).median),
            rate,
        ),
    ]
    return figures, details


def _ingested_per_s(
    client: Client, images: Iterable[ImageFile], expected: Outcome, collection: str = _COLLECTION
) -> float:
    """Until the last acknowledgement, which is when every row is stored."""
    started_s = last_s = time.perf_counter()
    count = 0
    for acknowledgement in client.index(collection, images):
        last_s = time.perf_counter()
        count += 1
        if acknowledgement.outcome is not expected:
            raise RuntimeError(f"not {expected.name}: {acknowledgement}")
    return count / (last_s - started_s)


def _bare_rows_per_s(uri: str, count: int) -> float:
    """The same rows by pymilvus alone, into a collection of the same kind."""
    asyncio.run(_make_bare(uri))
    entities = [
        schema.entity_of(Row(id=f"bare/{number}", vector=vector, uri=f"bare/{number}"))
        for number, vector in enumerate(clustered(count, _DIMENSION, seed=5))
    ]
    client = connect(uri)
    started_s = time.perf_counter()
    for start in range(0, count, _UPSERT_ROWS):
        client.upsert(_BARE, entities[start : start + _UPSERT_ROWS])
    seconds = time.perf_counter() - started_s
    client.drop_collection(_BARE)
    client.close()
    return count / seconds


async def _make_bare(uri: str) -> None:
    store = open_store(uri)
    try:
        spec = CollectionSpec(_BARE, _DIMENSION, "none", "none")
        await store.create_collection(spec, timeout_s=60)
    finally:
        await store.close()


def main() -> int:
    """Runs the benchmark; 0 also where bars are missed: the table says so."""
    options = _options()
    stacks.end_on_sigterm()
    weights = random_vit_b_32(stacks.OUTPUT)
    files = stacks.picture_files(options.images, options.pictures)
    report = Report(
        f"ingest-{options.store}", f"make bench-ingest STORE={options.store}", machine.describe()
    )
    with stacks.running_store(options.store) as uri:
        say("The whole stack ...")
        with (
            stacks.running_stack(uri, weights) as stack,
            Generator(stack.addresses["encoder"]) as generator,
            Client(stack.query, stack.indexer, timeout_s=60) as client,
        ):
            tutorial = Tutorial(weights, uri)
            tutorial.create_collection()
            benchmark = IngestBenchmark(options, files, client)
            report.figures = benchmark.end_to_end(generator, tutorial)
            report.details = benchmark.details
        say("The indexer between a stub encoder and the store ...")
        port = Ports.free().encoder
        address = f"127.0.0.1:{port}"
        stub = ["benchmarks.stub_encoder", str(port), str(pixmaps.SIZE)]
        with (
            stacks.running_process(stub, address),
            stacks.running_stack(uri, weights, {"INDEXER_ENCODER": address}) as stack,
        ):
            figures, details = measure_alone(stack, options)
    report.figures += figures
    report.details |= details | {"options": dict(sorted(vars(options).items()))}
    name = "ingest.json" if options.store == "milvus" else f"ingest-{options.store}.json"
    report.write(stacks.OUTPUT / name)
    print(report.table())
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description=__doc__)
    parser.add_argument("--store", choices=stacks.STORES, default="milvus")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each single rate")
    parser.add_argument("--images", default="", help="a folder; without it, pictures are drawn")
    parser.add_argument("--pictures", type=int, default=200, help="of one run end to end")
    parser.add_argument("--rows", type=int, default=5_000, help="of one run with a stub encoder")
    parser.add_argument("--stream", type=int, default=100_000, help="images while memory is read")
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it works")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.pictures = 1, 1.0, 10
        options.rows, options.stream = 500, 1_000
    return options


if __name__ == "__main__":
    raise SystemExit(main())
