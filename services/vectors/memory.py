"""The vector store in memory: exact, for tests and trials; nothing of it outlives the process.

It takes typed filters whole, and of Milvus' expressions what expressions.py reads.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glimpse.errors import AlreadyExists, NotFound
from services.common.deadline import Deadline
from services.vectors import bounds, filters
from services.vectors.expressions import parse
from services.vectors.store import (
    ALL_FIELDS,
    AnyFilter,
    CollectionInfo,
    CollectionSpec,
    Consistency,
    Row,
    ScoredRow,
    estimated_bytes,
)

INDEX_KINDS = ("AUTO", "FLAT")


@dataclass
class _Collection:
    spec: CollectionSpec
    created_at_ms: int
    rows: dict[str, Row] = field(default_factory=dict)
    vectors: NDArray[np.float32] | None = None  # of `rows`, in their order; None after a write

    def matrix(self) -> NDArray[np.float32]:
        """float32 [rows, dimension]."""
        if self.vectors is None:
            self.vectors = np.array([row.vector for row in self.rows.values()], dtype=np.float32)
        return self.vectors.reshape(-1, self.spec.dimension)


class MemoryStore:
    """A VectorStore. No call waits, so calls of one event loop never overlap."""

    def __init__(self) -> None:
        self._collections: dict[str, _Collection] = {}

    async def ready(self, *, deadline: Deadline) -> None:
        deadline.left_s()

    async def create_collection(self, spec: CollectionSpec, *, deadline: Deadline) -> None:
        deadline.left_s()
        bounds.check_spec(spec, INDEX_KINDS)
        if spec.name in self._collections:
            raise AlreadyExists(f"collection {spec.name!r} stands already")
        self._collections[spec.name] = _Collection(spec, time.time_ns() // 1_000_000)

    async def describe_collection(
        self, name: str, *, deadline: Deadline, load: bool = True
    ) -> CollectionInfo:
        collection = self._collection(name, deadline)
        spec, rows = collection.spec, len(collection.rows)
        return CollectionInfo(
            name=spec.name,
            dimension=spec.dimension,
            model_name=spec.model_name,
            model_fingerprint=spec.model_fingerprint,
            index_kind="FLAT",
            index_state="Finished",
            metric=spec.metric,
            rows=rows,
            bytes=estimated_bytes(rows, spec.dimension),
            created_at_ms=collection.created_at_ms,
        )

    async def get_spec(
        self, name: str, *, deadline: Deadline, max_age_s: float = 0.0
    ) -> CollectionSpec:
        return self._collection(name, deadline).spec

    async def list_collections(
        self, *, deadline: Deadline, after: str = "", limit: int | None = None
    ) -> list[str]:
        deadline.left_s()
        return sorted(name for name in self._collections if name > after)[:limit]

    async def drop_collection(self, name: str, *, deadline: Deadline) -> None:
        self._collection(name, deadline)
        del self._collections[name]

    async def upsert(self, name: str, rows: Sequence[Row], *, deadline: Deadline) -> None:
        collection = self._collection(name, deadline)
        for row in bounds.unique_rows(rows, collection.spec.dimension):
            collection.rows[row.id] = copy.deepcopy(row)
        collection.vectors = None

    async def fetch(
        self,
        name: str,
        ids: Iterable[str],
        fields: Sequence[str],
        *,
        deadline: Deadline,
        consistency: Consistency = "strong",
    ) -> dict[str, dict[str, Any]]:
        bounds.check_fields(fields, ALL_FIELDS)
        wanted = bounds.unique_ids(ids)
        rows = self._collection(name, deadline).rows
        return {id: _fields(rows[id], fields) for id in wanted if id in rows}

    async def delete_ids(self, name: str, ids: Iterable[str], *, deadline: Deadline) -> int:
        wanted = bounds.unique_ids(ids)
        collection = self._collection(name, deadline)
        return _delete(collection, [id for id in wanted if id in collection.rows])

    async def delete_where(self, name: str, filter: AnyFilter, *, deadline: Deadline) -> int:
        filters.check_given(filter)
        takes = _predicate(filter)
        collection = self._collection(name, deadline)
        return _delete(collection, [row.id for row in collection.rows.values() if takes(row)])

    async def search(
        self,
        name: str,
        vectors: NDArray[np.float32],
        limit: int,
        *,
        deadline: Deadline,
        filter: AnyFilter = "",
        offset: int = 0,
        fields: Sequence[str] = (),
        consistency: Consistency = "bounded",
        exclude_ids: Sequence[str] = (),
    ) -> list[list[ScoredRow]]:
        bounds.check_window(limit, offset, len(exclude_ids))
        bounds.check_fields(fields, ALL_FIELDS)
        takes = _predicate(filter)
        excluded = frozenset(exclude_ids)
        collection = self._collection(name, deadline)
        queries = bounds.check_queries(vectors, collection.spec.dimension)
        rows = list(collection.rows.values())
        taken = [i for i, row in enumerate(rows) if row.id not in excluded and takes(row)]
        all_scores = queries @ collection.matrix()[taken].T  # [Q, taken]
        answers = []
        for scores in all_scores.astype(float).tolist():
            ranked = sorted(
                (-round(score, 6), rows[i].id, i) for score, i in zip(scores, taken, strict=True)
            )
            window = ranked[offset : offset + limit]
            answers.append(
                [ScoredRow(id, -score, _fields(rows[i], fields)) for score, id, i in window]
            )
        return answers

    async def count(self, name: str, filter: AnyFilter = "", *, deadline: Deadline) -> int:
        takes = _predicate(filter)
        return sum(map(takes, self._collection(name, deadline).rows.values()))

    async def settle(self, name: str, *, deadline: Deadline) -> None:
        self._collection(name, deadline)

    async def close(self) -> None:
        self._collections.clear()

    def _collection(self, name: str, deadline: Deadline) -> _Collection:
        deadline.left_s()
        if bounds.check_name(name) not in self._collections:
            raise NotFound(f"no collection {name!r}", reason="COLLECTION_NOT_FOUND")
        return self._collections[name]


def _delete(collection: _Collection, ids: Sequence[str]) -> int:
    for id in ids:
        del collection.rows[id]
    collection.vectors = None
    return len(ids)


def _fields(row: Row, fields: Sequence[str]) -> dict[str, Any]:
    return {name: copy.deepcopy(getattr(row, name)) for name in fields}


def _predicate(filter: AnyFilter) -> Callable[[Row], bool]:
    if isinstance(filter, str) and not filter.strip():
        return lambda _: True
    filters.render(filter)  # checks it
    typed = parse(filter) if isinstance(filter, str) else filter
    return lambda row: filters.matches(typed, vars(row))
