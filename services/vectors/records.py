"""What collections and rows are, to every store and its callers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

IndexKind = Literal["AUTO", "FLAT", "IVF_FLAT", "IVF_SQ8", "HNSW", "HNSW_SQ", "DISKANN"]
Metric = Literal["IP", "COSINE"]
Consistency = Literal["bounded", "strong"]

# What can be asked for besides the id and the score; "vector" must be asked for by name.
ROW_FIELDS = ("uri", "content_sha256", "width", "height", "format", "indexed_at_ms", "metadata")
ALL_FIELDS = (*ROW_FIELDS, "vector")

NOT_LOADED = "NotLoaded"
"""The index state of a collection that is not in memory."""


@dataclass(frozen=True)
class CollectionSpec:
    """What a collection is made of.

    `index_kind` AUTO leaves the choice to the backend. Vectors have unit length, so the metrics
    IP and COSINE give the same scores.
    """

    name: str
    dimension: int
    model_name: str
    model_fingerprint: str
    index_kind: IndexKind = "AUTO"
    metric: Metric = "IP"


@dataclass(frozen=True)
class CollectionInfo:
    """What a collection is now.

    rows: exact; the backend's estimate where index_state is NOT_LOADED. bytes: an estimate, `rows`
    times the vector's bytes and 512 for its attributes; no backend tells the real figure.
    index_kind: the index that is in use. index_state: the backend's own word, such as "Finished",
    which Milvus Lite says too early.
    """

    name: str
    dimension: int
    model_name: str
    model_fingerprint: str
    index_kind: IndexKind
    index_state: str
    metric: Metric
    rows: int
    bytes: int
    created_at_ms: int


@dataclass(frozen=True)
class Row:
    """One image. vector: float32 [dimension], unit length; metadata: a JSON object."""

    id: str
    vector: NDArray[np.float32]
    uri: str = ""
    content_sha256: str = ""
    width: int = 0
    height: int = 0
    format: str = ""
    indexed_at_ms: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoredRow:
    """One result: the cosine in [-1, 1], rounded to six decimals, and the fields asked for."""

    id: str
    score: float
    fields: dict[str, Any]


def estimated_bytes(rows: int, dimension: int) -> int:
    """What CollectionInfo.bytes says."""
    return rows * (4 * dimension + 512)
