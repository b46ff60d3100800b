"""The vector store in memory: exact, and limited to typed filters.

Milvus' language is Milvus' to read; a test whose filter is text says what that text means.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glimpse.errors import AlreadyExists, FailedPrecondition, InvalidInput, NotFound
from services.common.deadline import Deadline
from services.vectors import bounds, filters, generation_names
from services.vectors.filters import (
    And,
    AnyFilter,
    AnyOf,
    Exists,
    Filter,
    Not,
    Or,
    Path,
    Prefix,
    Scalar,
)
from services.vectors.records import (
    ALL_FIELDS,
    CollectionInfo,
    CollectionSpec,
    Consistency,
    Place,
    Row,
    ScoredRow,
    StoredGeneration,
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

    def __init__(self, meanings: Mapping[str, Filter] | None = None) -> None:
        """`meanings` are the filters that are known as text, besides the empty one."""
        # By name and number; and by name, the number of the one that serves, unless it is 0.
        self._generations: dict[tuple[str, int], _Collection] = {}
        self._serving: dict[str, int] = {}
        self._meanings = {} if meanings is None else meanings

    async def ready(self, *, deadline: Deadline) -> None:
        deadline.left_s()

    async def create_collection(self, spec: CollectionSpec, *, deadline: Deadline) -> None:
        deadline.left_s()
        bounds.check_spec(spec, INDEX_KINDS)
        if (spec.name, self._serving.get(spec.name, 0)) in self._generations:
            raise AlreadyExists(f"collection {spec.name!r} already exists")
        self._make(spec, 0)

    async def create_generation(
        self, spec: CollectionSpec, *, deadline: Deadline
    ) -> CollectionSpec:
        bounds.check_spec(spec, INDEX_KINDS)
        generation_names.check_can_grow(spec.name)
        self._collection(spec.name, deadline)
        return self._make(spec, 1 + max(self._numbers(spec.name)))

    async def list_generations(self, name: str, *, deadline: Deadline) -> list[StoredGeneration]:
        deadline.left_s()
        bounds.check_name(name)
        serving = self._serving.get(name, 0)
        return [
            StoredGeneration(self._generations[name, number].spec, number == serving)
            for number in sorted(self._numbers(name))
        ]

    async def switch_generation(self, name: str, number: int, *, deadline: Deadline) -> None:
        self._generation(name, number, deadline)
        self._serving[name] = number

    async def hold_writes(self, name: str, until_ms: int, *, deadline: Deadline) -> None:
        collection = self._collection(name, deadline)
        collection.spec = replace(collection.spec, held_until_ms=until_ms)

    async def drop_generation(self, name: str, number: int, *, deadline: Deadline) -> None:
        self._generation(name, number, deadline)
        if number == self._serving.get(name, 0):
            raise FailedPrecondition(
                f"generation {number} of collection {name!r} serves it", reason="GENERATION_SERVES"
            )
        del self._generations[name, number]

    async def describe_collection(
        self, name: str, *, deadline: Deadline, load: bool = True, exact: bool = True
    ) -> CollectionInfo:
        collection = self._collection(name, deadline)
        spec, rows = collection.spec, len(collection.rows)
        return CollectionInfo(
            name=name,
            dimension=spec.dimension,
            model_name=spec.model_name,
            model_fingerprint=spec.model_fingerprint,
            index_kind="FLAT",
            index_state="Finished",
            metric=spec.metric,
            rows=rows,
            bytes=estimated_bytes(rows, spec.dimension),
            created_at_ms=collection.created_at_ms,
            indexed_rows=rows,
            pending_rows=0,
            index_left_s=None,
        )

    async def get_spec(
        self, name: str, *, deadline: Deadline, max_age_s: float = 0.0
    ) -> CollectionSpec:
        return self._collection(name, deadline).spec

    async def list_collections(
        self, *, deadline: Deadline, after: str = "", limit: int | None = None
    ) -> list[str]:
        deadline.left_s()
        serving = (
            name for name, number in self._generations if number == self._serving.get(name, 0)
        )
        return sorted(name for name in serving if name > after)[:limit]

    async def drop_collection(self, name: str, *, deadline: Deadline) -> None:
        self._collection(bounds.check_name(name), deadline)
        for number in self._numbers(name):
            del self._generations[name, number]
        self._serving.pop(name, None)

    async def upsert(self, name: str, rows: Sequence[Row], *, deadline: Deadline) -> None:
        collection = self._collection(name, deadline)
        for row in await bounds.unique_rows(rows, collection.spec.dimension):
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

    async def list_rows(
        self,
        name: str,
        limit: int,
        fields: Sequence[str] = (),
        *,
        deadline: Deadline,
        filter: AnyFilter = "",
        ids: Iterable[str] | None = None,
        after_id: str = "",
        consistency: Consistency = "strong",
    ) -> list[tuple[str, dict[str, Any]]]:
        bounds.check_listed(limit, after_id)
        bounds.check_fields(fields, ALL_FIELDS)
        takes = self._predicate(filter)
        wanted = None if ids is None else bounds.unique_ids(ids)
        collection = self._collection(name, deadline)
        there = collection.rows.keys() if wanted is None else collection.rows.keys() & wanted
        behind = sorted(id for id in there if id > after_id)
        taken = (collection.rows[id] for id in behind)
        first = itertools.islice((row for row in taken if takes(row)), limit)
        texts = ["metadata"] if "metadata" in fields else []
        return [
            (row.id, _fields(row, fields) | {name: row.metadata.text for name in texts})
            for row in first
        ]

    async def delete_ids(self, name: str, ids: Iterable[str], *, deadline: Deadline) -> int:
        wanted = bounds.unique_ids(ids)
        collection = self._collection(name, deadline)
        return _delete(collection, [id for id in wanted if id in collection.rows])

    async def delete_where(self, name: str, filter: AnyFilter, *, deadline: Deadline) -> int:
        filters.check_given(filter)
        takes = self._predicate(filter)
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
        after: Place | None = None,
        fields: Sequence[str] = (),
        consistency: Consistency = "bounded",
        exclude_ids: Sequence[str] = (),
    ) -> list[list[ScoredRow]]:
        bounds.check_window(limit, after.rank if after else offset, len(exclude_ids))
        bounds.check_fields(fields, ALL_FIELDS)
        takes = self._predicate(filter)
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
            bare = [ScoredRow(id, -score, {}) for score, id, _ in ranked]
            start = after.end_in(bare) if after else offset
            window = ranked[start : start + limit]
            answers.append(
                [ScoredRow(id, -score, _fields(rows[i], fields)) for score, id, i in window]
            )
        return answers

    async def count(self, name: str, filter: AnyFilter = "", *, deadline: Deadline) -> int:
        takes = self._predicate(filter)
        return sum(map(takes, self._collection(name, deadline).rows.values()))

    async def settle(self, name: str, *, deadline: Deadline) -> None:
        self._collection(name, deadline)

    async def close(self) -> None:
        self._generations.clear()

    def _predicate(self, filter: AnyFilter) -> Callable[[Row], bool]:
        expression = filters.render(filter)  # checks it
        if not expression:
            return lambda _: True
        typed = self._meanings.get(expression) if isinstance(filter, str) else filter
        if typed is None:
            raise InvalidInput("filter", "is text, which means nothing", reason="INVALID_FILTER")
        return lambda row: matches(typed, values_of(row))

    def _collection(self, name: str, deadline: Deadline) -> _Collection:
        """What a name means: the collection that serves, or the generation that it names."""
        deadline.left_s()
        collection, number = generation_names.parts_of(bounds.check_address(name))
        serving = self._serving.get(collection, 0)
        found = self._generations.get((collection, serving if number is None else number))
        if found is None:
            raise NotFound(f"no collection {name!r}", reason="COLLECTION_NOT_FOUND")
        return found

    def _generation(self, name: str, number: int, deadline: Deadline) -> _Collection:
        deadline.left_s()
        found = self._generations.get((bounds.check_name(name), number))
        if found is None:
            raise NotFound(
                f"collection {name!r} has no generation {number}", reason="GENERATION_NOT_FOUND"
            )
        return found

    def _numbers(self, name: str) -> list[int]:
        return [number for of, number in self._generations if of == name]

    def _make(self, spec: CollectionSpec, number: int) -> CollectionSpec:
        created_at_ms = time.time_ns() // 1_000_000
        made = replace(spec, generation=number, created_at_ms=created_at_ms)
        self._generations[made.name, number] = _Collection(made, created_at_ms)
        return made


def _delete(collection: _Collection, ids: Sequence[str]) -> int:
    for id in ids:
        del collection.rows[id]
    collection.vectors = None
    return len(ids)


def _fields(row: Row, fields: Sequence[str]) -> dict[str, Any]:
    values = values_of(row)
    return {name: copy.deepcopy(values[name]) for name in fields}


def values_of(row: Row) -> dict[str, Any]:
    """By field, as they are read."""
    return {**vars(row), "metadata": row.metadata.value}


def matches(filter: Filter, row: Mapping[str, Any]) -> bool:
    """Whether the filter, checked before, takes the row: its fields by name."""
    if isinstance(filter, And):
        return all(matches(term, row) for term in filter.terms)
    if isinstance(filter, Or):
        return any(matches(term, row) for term in filter.terms)
    if isinstance(filter, Not):
        return not matches(filter.term, row)
    if isinstance(filter, Exists):
        return _value(row["metadata"], filter.path)[0]
    exists, value = _value(row[filter.field], filter.path)
    if not exists:
        return False
    if isinstance(filter, AnyOf):
        return any(_compare(value, "==", other) for other in filter.values)
    if isinstance(filter, Prefix):
        return isinstance(value, str) and value.startswith(filter.prefix)
    return _compare(value, filter.operator, filter.value)


def _value(value: Any, path: Path) -> tuple[bool, Any]:
    """Whether there is something at the path, and what."""
    for step in path:
        if isinstance(step, str):
            if not isinstance(value, dict) or step not in value:
                return False, None
            value = value[step]
        else:
            if not isinstance(value, list) or step >= len(value):
                return False, None
            value = value[step]
    return True, value


def _compare(value: Any, operator: str, other: Scalar) -> bool:
    if _kind(value) != _kind(other):
        return operator == "!="
    return {
        "==": lambda: value == other,
        "!=": lambda: value != other,
        "<": lambda: value < other,
        "<=": lambda: value <= other,
        ">": lambda: value > other,
        ">=": lambda: value >= other,
    }[operator]()


def _kind(value: Any) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "number"
    return type(value).__name__
