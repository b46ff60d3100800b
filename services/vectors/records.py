"""What collections, rows and places among rows are, to every store and its callers."""

from __future__ import annotations

import bisect
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from services.vectors.generation_names import address_of
from services.vectors.metadata import NO_METADATA, Metadata

IndexKind = Literal["AUTO", "FLAT", "IVF_FLAT", "IVF_SQ8", "HNSW", "HNSW_SQ", "DISKANN"]
Metric = Literal["IP", "COSINE"]
Consistency = Literal["bounded", "strong"]

# What can be asked for besides the id and the score; "vector" must be asked for by name.
ROW_FIELDS = ("uri", "content_sha256", "width", "height", "format", "indexed_at_ms", "metadata")
ALL_FIELDS = (*ROW_FIELDS, "vector")

# The score of one row, computed anew, may be rounded to the next of six decimals.
_SAME_SCORE = 1.5e-6

DECLARED = "declared:"
"""Before the model's name, the fingerprint of a collection of which nobody knows more: its vectors
were imported, and their owner says which model made them. No encoder has such a fingerprint."""

NOT_LOADED = "NotLoaded"
"""The index state of a collection that is not in memory."""

REBUILDING = "Rebuilding"
"""The index state while every row is found through an index, and rows that the backend has merged
into larger segments get a new one."""


def now_ms() -> int:
    """As in rows and collections, and in what holds writes: milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class CollectionSpec:
    """What a collection is made of.

    `index_kind` AUTO leaves the choice to the backend. Vectors have unit length, so the metrics
    IP and COSINE give the same scores. `generation` and what follows it are the store's to say.
    """

    name: str
    dimension: int
    model_name: str
    model_fingerprint: str
    index_kind: IndexKind = "AUTO"
    metric: Metric = "IP"
    generation: int = 0
    created_at_ms: int = field(default=0, compare=False)
    held_until_ms: int = field(default=0, compare=False)  # see VectorStore.hold_writes

    @property
    def address(self) -> str:
        """The name for calls that mean this generation, whichever serves when they come."""
        return address_of(self.name, self.generation)


@dataclass(frozen=True)
class StoredGeneration:
    """One of a collection's generations; one of them serves."""

    spec: CollectionSpec
    is_serving: bool


@dataclass(frozen=True)
class CollectionInfo:
    """What a collection is now.

    rows: exact, if that was asked for; else, and where index_state is NOT_LOADED, the backend's
    estimate, which may count what was deleted or replaced lately. bytes: an estimate, `rows`
    times the vector's bytes and 512 for its attributes; no backend tells the real figure.
    index_kind: the index that is in use. index_state: the backend's own word, such as "Finished",
    which Milvus Lite says too early; or one of ours, NOT_LOADED or REBUILDING.

    indexed_rows: those that searches find through the index; the others are compared one by one.
    pending_rows: those whose index is being built, for the first time or anew. index_left_s: an
    estimate of when that is done; None where nothing is pending, or nothing is known yet.
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
    indexed_rows: int
    pending_rows: int
    index_left_s: float | None


@dataclass(frozen=True)
class Row:
    """One image. vector: float32 [dimension], unit length."""

    id: str
    vector: NDArray[np.float32]
    uri: str = ""
    content_sha256: str = ""
    width: int = 0
    height: int = 0
    format: str = ""
    indexed_at_ms: int = 0
    metadata: Metadata = NO_METADATA


@dataclass(frozen=True)
class ScoredRow:
    """One result: the cosine in [-1, 1], rounded to six decimals, and the fields asked for."""

    id: str
    score: float
    fields: dict[str, Any]


@dataclass(frozen=True)
class Place:
    """The hit that a page ended with, by its score and id; the next page begins behind it.

    rank: how many hits there were until then, with this one. Since then rows may have come or gone
    before it, and itself may be gone.
    """

    rank: int
    score: float
    id: str

    def end_in(self, hits: Sequence[ScoredRow]) -> int:
        """Where, among all hits from the best one on, those begin that come behind this place.

        Of equal scores, they come behind the hit itself wherever that is, and where it is gone,
        before the first one of a greater id.
        """
        start = bisect.bisect_left(hits, -self.score - _SAME_SCORE, key=_descending)
        end = bisect.bisect_right(hits, -self.score + _SAME_SCORE, key=_descending)
        equal = [hit.id for hit in hits[start:end]]
        if self.id in equal:
            return start + equal.index(self.id) + 1
        start = bisect.bisect_left(hits, -self.score, key=_descending)
        end = bisect.bisect_right(hits, -self.score, key=_descending)
        return next((at for at in range(start, end) if hits[at].id > self.id), end)


def _descending(hit: ScoredRow) -> float:
    return -hit.score


def estimated_bytes(rows: int, dimension: int) -> int:
    """What CollectionInfo.bytes says."""
    return rows * (4 * dimension + 512)
