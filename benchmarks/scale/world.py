"""The rows of a large collection, made again from their numbers at any time, and what is exact
about them: how many a filter takes, and who a query's nearest are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.vectors import Vectors, clustered
from services.vectors.metadata import Metadata
from services.vectors.records import Row

DIMENSION = 512
BLOCK_ROWS = 10_000
QUERY_SEED = 99
METADATA_BYTES = 200
TENANTS = 100

_SEED = 1_000
_SPREAD = 2_654_435_761  # odd, and about 2^32 by the golden ratio
_OURS = re.compile(r"[0-9a-f]{8}")
_ZIPF = 1 / np.arange(1, TENANTS + 1)
_TITLE = (
    "a picture of something that somebody took somewhere, and then wrote some words about, "
    "so that others find it, as number "
)


@dataclass(frozen=True)
class Filter:
    """An expression of Milvus, and the rows that it takes: those whose `key` has the value."""

    expression: str
    key: str = ""
    value: int = 0

    def mask(self, attributes: dict[str, NDArray[np.int64]]) -> NDArray[np.bool_]:
        if not self.key:
            return np.ones(len(next(iter(attributes.values()))), bool)
        return attributes[self.key] == self.value


def _equal(key: str, value: int) -> Filter:
    return Filter(f'metadata["{key}"] == {value}', key, value)


FILTERS = {
    "none": Filter(""),
    "50%": _equal("half", 0),
    "1%": _equal("percent", 7),
    "0.01%": _equal("rare", 7),
}
"""By their selectivity; what they take is spread over all clusters."""


@dataclass(frozen=True)
class Exact:
    """The best rows of each query [Q, count], best first; -1 and -inf past the end; and how many
    rows there are."""

    ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    rows: int


def block_vectors(block: int) -> Vectors:
    """float32 [BLOCK_ROWS, DIMENSION]."""
    return clustered(BLOCK_ROWS, DIMENSION, seed=_SEED + block)


def block_attributes(block: int) -> dict[str, NDArray[np.int64]]:
    """By key, int64 [BLOCK_ROWS]; tenants are of unequal size, by Zipf's law."""
    rng = np.random.default_rng([_SEED, block])
    return {
        "tenant": rng.choice(TENANTS, BLOCK_ROWS, p=_ZIPF / _ZIPF.sum()),
        "half": rng.integers(0, 2, BLOCK_ROWS),
        "percent": rng.integers(0, 100, BLOCK_ROWS),
        "rare": rng.integers(0, 10_000, BLOCK_ROWS),
    }


def block_rows(block: int) -> list[Row]:
    """The rows of the block, with a uri and about METADATA_BYTES of metadata."""
    attributes = block_attributes(block)
    columns = {key: values.tolist() for key, values in attributes.items()}
    first = block * BLOCK_ROWS
    return [
        Row(
            id=id_of(first + i),
            vector=vector,
            uri=f"s3://pictures/{first + i:09}.jpg",
            content_sha256=f"{first + i:064x}",
            width=640,
            height=480,
            format="JPEG",
            indexed_at_ms=1_700_000_000_000,
            metadata=Metadata.of(
                {key: values[i] for key, values in columns.items()}
                | {"title": f"{_TITLE}{first + i:09}"}
            ),
        )
        for i, vector in enumerate(block_vectors(block))
    ]


def queries(count: int) -> Vectors:
    """Unit vectors of the same clusters, none of which is a row's."""
    return clustered(count, DIMENSION, seed=QUERY_SEED)


def exact_neighbours(
    asked: Vectors, blocks: int, count: int, filters: Sequence[Filter]
) -> list[Exact]:
    """The `count` nearest of the first blocks' rows, among those that each filter takes."""
    ids = np.full((len(filters), len(asked), count), -1)
    best = np.full((len(filters), len(asked), count), -np.inf, np.float32)
    rows = [0] * len(filters)
    for block in range(blocks):
        scores = asked @ block_vectors(block).T
        attributes = block_attributes(block)
        for number, each in enumerate(filters):
            taken = np.flatnonzero(each.mask(attributes))
            rows[number] += len(taken)
            both = np.concatenate([best[number], scores[:, taken]], axis=1)
            numbers = np.broadcast_to(taken + block * BLOCK_ROWS, (len(asked), len(taken)))
            both_ids = np.concatenate([ids[number], numbers], axis=1)
            kept = np.argpartition(-both, count - 1, axis=1)[:, :count]
            best[number] = np.take_along_axis(both, kept, axis=1)
            ids[number] = np.take_along_axis(both_ids, kept, axis=1)
    order = np.argsort(-best, axis=2)
    ids, best = np.take_along_axis(ids, order, axis=2), np.take_along_axis(best, order, axis=2)
    return [Exact(*each) for each in zip(ids, best, rows, strict=True)]


def id_of(number: int) -> str:
    """Of a row; as with ids of content, neighbours in their order lie in different segments."""
    return f"{number * _SPREAD % 2**32:08x}"


def number_of(identity: str) -> int:
    """Of a row by its id; -1 for what is none of ours."""
    if not _OURS.fullmatch(identity):
        return -1
    return int(identity, 16) * pow(_SPREAD, -1, 2**32) % 2**32


def recall(exact: Exact, found: Sequence[Sequence[tuple[str, float]]]) -> dict[str, float]:
    """Of found ids and scores, one list per query: the share of the exact ids among them, the sum
    of their scores ÷ the exact ones', and how many came ÷ how many there are."""
    there = exact.ids >= 0
    pairs = list(zip(exact.ids.tolist(), found, strict=True))
    ids = [len({number_of(id) for id, _ in hits} & set(ids) - {-1}) for ids, hits in pairs]
    scores = sum(score for hits in found for _, score in hits)
    count = max(int(there.sum()), 1)
    return {
        "recall_id": sum(ids) / count,
        "recall_score": scores / max(float(exact.scores[there].sum()), 1e-9),
        "filled_share": sum(map(len, found)) / count,
    }
