"""Rows per second into the store, by the indexer's pipeline and by pymilvus alone, in this process.

Pixels are precomputed and vectors come from a table, so that what is left of the pipeline is
everything that it does for a row: checks, checksum, look-up, order, batches, write.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from pymilvus import MilvusClient

from benchmarks import pixmaps, stacks
from benchmarks.report import Bar, Figure, Spread
from benchmarks.tutorial import connect
from benchmarks.vectors import clustered, entity_of
from glimpse.pictures.preprocess import Decoded
from glimpse.pictures.preprocessing import PREPROCESSING_VERSION, Preprocessing
from glimpse.results import Outcome
from services.common import encoder_client
from services.common.deadline import Deadline
from services.common.server import calm_garbage_collector
from services.indexer.metrics import IndexerMetrics
from services.indexer.pipeline import Pipeline
from services.indexer.records import Attributes, EncodedPicture, Image, Target
from services.indexer.settings import IndexerSettings
from services.indexer.stages import row
from services.vectors.metadata import NO_METADATA
from services.vectors.milvus.store import MilvusStore
from services.vectors.records import CollectionSpec
from services.vectors.store import VectorStore

_COLLECTION = "rows"
_TIMEOUT_S = 60.0
_UPSERT_ROWS = 1_000
MODEL = encoder_client.EncoderModel(
    name="table",
    fingerprint="0" * 64,
    dimension=512,
    image_size=pixmaps.SIZE,
    preprocessing_version=PREPROCESSING_VERSION,
    max_texts=1,
    max_images=64,
    max_file_bytes=2**20,
    max_image_pixels=2**20,
    max_message_bytes=2**26,
)


class BlackDecoder:
    """What the pipeline needs of decode workers; every picture is black."""

    _DECODED = Decoded(
        np.zeros((pixmaps.SIZE, pixmaps.SIZE, 3), np.uint8), pixmaps.SIZE, pixmaps.SIZE, "BMP"
    )

    async def decode(
        self, content: bytes, preprocessing: Preprocessing, caller: Hashable
    ) -> Decoded:
        return self._DECODED


class TableEncoder:
    """What the pipeline needs of an encoder; picture i gets row i of `vectors`, over and over."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self._items = [encoder_client.Embedded(vector, None) for vector in vectors]
        self._next = 0

    async def encode_pixels(
        self,
        fingerprint: str,
        pixels: Sequence[NDArray[np.uint8]],
        deadline: Deadline,
        interactive: bool,
    ) -> encoder_client.EncodedBatch:
        first, self._next = self._next, self._next + len(pixels)
        items = [self._items[i % len(self._items)] for i in range(first, self._next)]
        return encoder_client.EncodedBatch(items, MODEL.fingerprint, 0, 0)


class RowsBenchmark:
    """Both ways write the same `rows` rows into a new collection of a store that is at rest."""

    def __init__(self, uri: str, rows: int, rounds: int) -> None:
        self._uri = uri
        self._rows = rows
        self._rounds = rounds
        self._vectors = clustered(1_024, MODEL.dimension, seed=5)
        self.details: dict[str, object] = {}

    def measure(self) -> list[Figure]:
        """Rows per second of both, in turn."""
        return asyncio.run(self._measure())

    async def _measure(self) -> list[Figure]:
        store, milvus = MilvusStore(self._uri), connect(self._uri)
        calm_garbage_collector()
        ours, bare = [], []
        for _ in range(self._rounds):
            ours.append(await self._piped_per_s(store))
            bare.append(await self._bare_per_s(store, milvus))
        await store.close()
        milvus.close()
        self.details = {"rows_per_s": ours, "bare_rows_per_s": bare}
        rate = Spread.of(ours)
        return [
            Figure(
                "rows_per_s",
                "rows/s of the indexer's pipeline, with precomputed pixels and vectors",
                rate.median,
                spread=rate,
            ),
            Figure.ratio(
                "share_of_bare",
                "rows_per_s ÷ rows/s of bare pymilvus upserts",
                ours,
                bare,
                Bar("at least", 0.6),
            ),
        ]

    async def _piped_per_s(self, store: VectorStore) -> float:
        images = [
            Image(number, picture.content or b"", picture.id, picture.address)
            for number, picture in enumerate(pixmaps.images(self._rows, prefix=_COLLECTION))
        ]
        encoder = TableEncoder(self._vectors)
        await self._begin(store)
        started_s = time.perf_counter()
        counts = await piped(store, _COLLECTION, images, encoder)
        seconds = time.perf_counter() - started_s
        if counts[Outcome.INDEXED] != len(images):
            raise RuntimeError(f"not indexed: {counts}")
        await self._end(store)
        return self._rows / seconds

    async def _bare_per_s(self, store: VectorStore, milvus: MilvusClient) -> float:
        entities = []
        for number, picture in enumerate(pixmaps.images(self._rows, prefix=_COLLECTION)):
            sha256 = hashlib.sha256(picture.content or b"").hexdigest()
            attributes = Attributes(picture.id, sha256, picture.address, NO_METADATA)
            vector = self._vectors[number % len(self._vectors)]
            seen = EncodedPicture(vector, pixmaps.SIZE, pixmaps.SIZE, "BMP")
            entities.append(entity_of(row(attributes, seen)))
        await self._begin(store)
        started_s = time.perf_counter()
        for start in range(0, self._rows, _UPSERT_ROWS):
            milvus.upsert(_COLLECTION, entities[start : start + _UPSERT_ROWS])
        seconds = time.perf_counter() - started_s
        await self._end(store)
        return self._rows / seconds

    async def _begin(self, store: VectorStore) -> None:
        spec = CollectionSpec(_COLLECTION, MODEL.dimension, MODEL.name, MODEL.fingerprint)
        await store.create_collection(spec, deadline=Deadline(_TIMEOUT_S))
        await asyncio.to_thread(stacks.wait_until_idle)

    async def _end(self, store: VectorStore) -> None:
        """Only after a count, which is exact: nothing is lost on either way."""
        count = await store.count(_COLLECTION, deadline=Deadline(_TIMEOUT_S))
        if count != self._rows:
            raise RuntimeError(f"{count} rows are there, not {self._rows}")
        await store.drop_collection(_COLLECTION, deadline=Deadline(_TIMEOUT_S))


async def piped(
    store: VectorStore, collection: str, images: Sequence[Image], encoder: TableEncoder
) -> Counter[Outcome]:
    """Images through the indexer's pipeline; how many came to which end."""
    settings = IndexerSettings.model_validate({})
    metrics = IndexerMetrics(CollectorRegistry())
    pipeline = Pipeline(store, encoder, BlackDecoder(), settings, metrics)
    counts: Counter[Outcome] = Counter()
    async for acknowledgement in pipeline.index(Target(collection, MODEL), _each(images)):
        counts[acknowledgement.outcome] += 1
    return counts


async def _each(images: Sequence[Image]) -> AsyncIterator[Image]:
    for image in images:
        yield image
