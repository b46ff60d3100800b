"""What names, ids, rows and windows may be; a broken bound is InvalidInput naming the field."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glimpse.errors import InvalidInput
from services.common.event_loop import paced
from services.common.text_bounds import check_unicode
from services.vectors.generation_names import check_unreserved, parts_of
from services.vectors.records import CollectionSpec, Row

COLLECTION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
ID = re.compile(r"[A-Za-z0-9._:/-]{1,128}")
MAX_DIMENSION = 32_768
MAX_ID_CHARACTERS = 128
MAX_URI_CHARACTERS = 2_048
MAX_FORMAT_CHARACTERS = 16
MAX_WINDOW = 16_384  # Milvus' own limit of offset + limit
MAX_QUERIES = 1_024
MAX_LISTED = 2_048  # rows of one answer, all small: reading it holds the event loop for 0.01 s
UNIT_TOLERANCE = 1e-3
LARGE_FIELDS = frozenset(("metadata", "vector"))
_MAX_LARGE_ROWS = 128
_INT32_MAX, _INT64_MAX = 2**31 - 1, 2**63 - 1


def check_name(name: str) -> str:
    if not COLLECTION_NAME.fullmatch(name):
        raise InvalidInput("collection", f"must match {COLLECTION_NAME.pattern}; it is {name!r}")
    return name


def check_address(name: str) -> str:
    """A collection's name, or the address of one of its generations."""
    check_name(parts_of(name)[0])
    return name


def check_spec(spec: CollectionSpec, index_kinds: Sequence[str]) -> None:
    """Of a new collection; `index_kinds` are those that the backend has."""
    check_unreserved(check_name(spec.name))
    if not 1 <= spec.dimension <= MAX_DIMENSION:
        raise InvalidInput("dimension", f"must be 1 to {MAX_DIMENSION}; it is {spec.dimension}")
    if spec.index_kind not in index_kinds:
        raise InvalidInput(
            "index_kind",
            f"{spec.index_kind!r} is not one of {', '.join(index_kinds)} of this store",
        )
    if spec.metric not in ("IP", "COSINE"):
        raise InvalidInput("metric", f"must be IP or COSINE; it is {spec.metric!r}")
    for field in ("model_name", "model_fingerprint"):
        if not 1 <= len(getattr(spec, field)) <= 256:
            raise InvalidInput(field, "must have 1 to 256 characters")


def check_id(value: str, field: str = "id") -> str:
    if not ID.fullmatch(value):
        raise InvalidInput(field, f"must match {ID.pattern}; it is {value[:200]!r}")
    return value


def unique_ids(ids: Iterable[str]) -> list[str]:
    """The ids, checked, each once, in their order."""
    return list(dict.fromkeys(check_id(value, f"ids[{i}]") for i, value in enumerate(ids)))


def check_row(row: Row, dimension: int) -> None:
    """All of a row but the length of its vector; metadata has been checked when it was made."""
    check_id(row.id)
    _check_text(row.uri, "uri", MAX_URI_CHARACTERS)
    _check_text(row.content_sha256, "content_sha256", 64)
    _check_text(row.format, "format", MAX_FORMAT_CHARACTERS)
    _check_integer(row.width, "width", _INT32_MAX)
    _check_integer(row.height, "height", _INT32_MAX)
    _check_integer(row.indexed_at_ms, "indexed_at_ms", _INT64_MAX)
    if np.shape(row.vector) != (dimension,):
        raise InvalidInput(
            "vector", f"must have {dimension} numbers; its shape is {np.shape(row.vector)}"
        )


async def unique_rows(rows: Sequence[Row], dimension: int) -> list[Row]:
    """The rows, checked in turns; of one id given twice, the last."""
    if not rows:
        return []
    async for i, row in paced(enumerate(rows)):
        try:
            check_row(row, dimension)
        except InvalidInput as error:
            raise error.at(f"rows[{i}].{error.field}") from None
    _check_unit(np.stack([row.vector for row in rows]))
    return list({row.id: row for row in rows}.values())


def check_fields(fields: Sequence[str], known: Sequence[str]) -> None:
    for name in fields:
        if name not in known:
            raise InvalidInput("fields", f"{name!r} is not one of {', '.join(known)}")


def check_queries(vectors: NDArray[np.float32], dimension: int) -> NDArray[np.float32]:
    """float32 [Q, dimension], finite."""
    queries = np.asarray(vectors, dtype=np.float32)
    if queries.ndim != 2 or not 1 <= len(queries) <= MAX_QUERIES:
        raise InvalidInput("vectors", f"must be 1 to {MAX_QUERIES} vectors; shape {queries.shape}")
    if queries.shape[1] != dimension:
        raise InvalidInput(
            "vectors", f"must have {dimension} numbers each; they have {queries.shape[1]}"
        )
    if not np.isfinite(queries).all():
        raise InvalidInput("vectors", "must be finite")
    return queries


def check_window(limit: int, offset: int, excluded: int) -> None:
    if limit < 1:
        raise InvalidInput("limit", f"must be at least 1; it is {limit}")
    if offset < 0:
        raise InvalidInput("offset", f"must be at least 0; it is {offset}")
    if offset + limit + excluded > MAX_WINDOW:
        raise InvalidInput(
            "offset",
            f"with limit and excluded ids must be at most {MAX_WINDOW}; "
            f"it is {offset} + {limit} + {excluded}",
        )


def check_listed(limit: int, after_id: str) -> None:
    if not 1 <= limit <= MAX_LISTED:
        raise InvalidInput("limit", f"must be 1 to {MAX_LISTED}; it is {limit}")
    if after_id:
        check_id(after_id, "after_id")


def rows_at_once(fields: Sequence[str], most: int) -> int:
    """How many rows with these attributes to read in one answer, and that is `most` of small ones.

    Reading an answer takes a turn of the event loop: 10 ms at most.
    """
    return min(most, _MAX_LARGE_ROWS) if LARGE_FIELDS.intersection(fields) else most


def _check_text(value: Any, field: str, max_characters: int) -> None:
    if not isinstance(value, str) or len(value) > max_characters:
        raise InvalidInput(field, f"must be text of at most {max_characters} characters")
    check_unicode(field, value)


def _check_integer(value: Any, field: str, maximum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= maximum:
        raise InvalidInput(field, f"must be an integer of 0 to {maximum}; it is {value!r}")


def lengths(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """float64 [N] of float32 [N, dimension]; of a vector that is not finite, NaN or infinity."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))


def are_unit(norms: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which lengths are 1, within the tolerance; NaN is not."""
    return np.abs(norms - 1) < UNIT_TOLERANCE


def _check_unit(vectors: NDArray[np.float32]) -> None:
    norms = lengths(vectors)
    wrong = np.flatnonzero(~are_unit(norms))
    if len(wrong):
        raise InvalidInput(
            f"rows[{wrong[0]}].vector",
            f"must be finite and of unit length; its length is {norms[wrong[0]]:.6g}",
        )
