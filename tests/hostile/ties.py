"""5,000 rows of equal vectors, as shops have them of "no picture yet", and 5,000 of different ones;
what a search costs that meets the first ÷ one that meets the others.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import grpc
import numpy as np
from numpy.typing import NDArray

from benchmarks.report import alternate, percentile
from benchmarks.vectors import clustered
from glimpse.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from glimpse.query.v1 import query_pb2, query_pb2_grpc
from services.vectors.store import Row, VectorStore, open_store

TIES = "ties"
DIFFERENT = "different"
TEXT = "no picture yet"
"""What finds them all."""

_ROWS = 5_000
_BATCH_ROWS = 1_000
_SEARCHES = 20
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Measured:
    """Milliseconds of each search."""

    ties_ms: list[float]
    different_ms: list[float]

    @property
    def ratio(self) -> float:
        """Of the medians."""
        return percentile(self.ties_ms, 0.5) / percentile(self.different_ms, 0.5)


def fill(milvus_uri: str, encoder: str) -> None:
    """Writes both into collections that are there, past the indexer."""
    vector = _vector(encoder, TEXT)
    ties = np.tile(vector, (_ROWS, 1))
    asyncio.run(_fill(milvus_uri, {TIES: ties, DIFFERENT: clustered(_ROWS, len(vector), seed=1)}))


def measure(query: str) -> Measured:
    """Searches both in turn."""
    with grpc.insecure_channel(query) as channel:
        stub = query_pb2_grpc.QueryStub(channel)

        def search_ms(collection: str) -> float:
            started_s = time.perf_counter()
            request = query_pb2.SearchRequest(collection=collection, text=TEXT)
            stub.Search(request, timeout=_TIMEOUT_S)
            return 1000 * (time.perf_counter() - started_s)

        for collection in (TIES, DIFFERENT):
            search_ms(collection)
        ties_ms, different_ms = alternate(
            _SEARCHES, lambda: search_ms(TIES), lambda: search_ms(DIFFERENT)
        )
    return Measured(ties_ms, different_ms)


def _vector(encoder: str, text: str) -> NDArray[np.float32]:
    with grpc.insecure_channel(encoder) as channel:
        stub = encoder_pb2_grpc.EncoderStub(channel)
        answer = stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=[text]), timeout=_TIMEOUT_S)
    return np.array(answer.results[0].embedding.values, np.float32)


async def _fill(milvus_uri: str, collections: dict[str, NDArray[np.float32]]) -> None:
    store = open_store(milvus_uri)
    try:
        await store.ready(timeout_s=_TIMEOUT_S)
        for name, vectors in collections.items():
            await _write(store, name, vectors)
    finally:
        await store.close()


async def _write(store: VectorStore, name: str, vectors: NDArray[np.float32]) -> None:
    for start in range(0, len(vectors), _BATCH_ROWS):
        rows = [
            Row(
                id=f"row{start + index}",
                vector=vector,
                uri=f"s3://shop/pictures/{start + index}.jpg",
                width=640,
                height=480,
                format="JPEG",
                metadata={"sku": f"{start + index:08}", "shop": "north", "price": 19.9},
            )
            for index, vector in enumerate(vectors[start : start + _BATCH_ROWS])
        ]
        await store.upsert(name, rows, timeout_s=_TIMEOUT_S)
    await store.settle(name, timeout_s=_TIMEOUT_S)
