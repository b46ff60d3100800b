"""Clustered vectors in a collection of ours, put there past the indexer; and exact neighbours."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.common.deadline import Deadline
from services.vectors.milvus.store import MilvusStore
from services.vectors.records import Row

_CLUSTERS = 256
# Length of what a vector has besides its centre's direction: neighbours then have cosines of about
# 0.67, as pictures of one kind have under CLIP.
_NOISE = 0.7
_BATCH_ROWS = 1_000
_TIMEOUT_S = 300.0

Vectors = NDArray[np.float32]


def clustered(count: int, dimension: int, seed: int) -> Vectors:
    """Unit vectors, float32 [count, dimension]; other seeds give others of the same clusters."""
    centres = np.random.default_rng(0).standard_normal((_CLUSTERS, dimension))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((count, dimension)) * (_NOISE / dimension**0.5)
    vectors = centres[rng.integers(0, _CLUSTERS, count)] + noise
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def exact_neighbours(vectors: Vectors, queries: Vectors, count: int) -> list[set[int]]:
    """For each of the queries [Q, D], the indices of its `count` nearest of `vectors` [N, D]."""
    scores = queries @ vectors.T  # [Q, N]
    return [set(row.tolist()) for row in np.argpartition(-scores, count, axis=1)[:, :count]]


def entity_of(row: Row) -> dict[str, Any]:
    """The row as pymilvus takes it."""
    return dict(vars(row)) | {"metadata": row.metadata.text}


def insert(milvus_uri: str, collection: str, vectors: Vectors) -> None:
    """Writes vectors as rows "0", "1", …, and waits until they are searched by the index."""
    asyncio.run(_insert(milvus_uri, collection, vectors))


async def _insert(milvus_uri: str, collection: str, vectors: Vectors) -> None:
    store = MilvusStore(milvus_uri)
    try:
        await store.ready(deadline=Deadline(_TIMEOUT_S))
        for start in range(0, len(vectors), _BATCH_ROWS):
            rows = [
                Row(id=str(start + index), vector=vector, uri=f"image/{start + index}")
                for index, vector in enumerate(vectors[start : start + _BATCH_ROWS])
            ]
            await store.upsert(collection, rows, deadline=Deadline(_TIMEOUT_S))
        await store.settle(collection, deadline=Deadline(_TIMEOUT_S))
    finally:
        await store.close()
