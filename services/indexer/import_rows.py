"""Imported rows as they came, and what of them can be written; who writes them is imports' job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glimpse.errors import InvalidInput, as_value
from services.common.event_loop import paced
from services.indexer.bounds import check_uri
from services.vectors import bounds
from services.vectors.metadata import Metadata
from services.vectors.records import Row

_FLOAT_BYTES = 4


class GivenRow(NamedTuple):
    """A row as it came, nothing checked; an empty `metadata_json` stands for none."""

    id: str
    vector: bytes  # float32, little-endian
    uri: str
    width: int
    height: int
    format: str
    metadata_json: str
    indexed_at_ms: int
    content_sha256: str


@dataclass(frozen=True)
class RowTarget:
    """Where a stream of rows goes, and what their vectors must be; `address` is that of the
    generation which served the collection when it began."""

    collection: str
    address: str
    dimension: int
    normalise: bool


class RejectedRow(NamedTuple):
    """A row that breaks a bound."""

    position: int  # in its batch
    id: str
    error: InvalidInput


class CheckedBatch(NamedTuple):
    """The rows of a batch that can be written, and those that break a bound."""

    sequence: int
    rows: list[Row]
    rejected: list[RejectedRow]


async def check_rows(sequence: int, given: Sequence[GivenRow], target: RowTarget) -> CheckedBatch:
    """The rows that can be written, and those that break a bound; in turns of the event loop."""
    vectors = _vectors_of(given, target.dimension)
    norms = bounds.lengths(vectors)
    if target.normalise:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            vectors = (vectors / norms[:, None]).astype(np.float32)
        fit = np.isfinite(norms) & (norms > 0)
    else:
        fit = bounds.are_unit(norms)
    checked = CheckedBatch(sequence, [], [])
    async for index, row in paced(enumerate(given)):
        try:
            made = _row_of(row, vectors[index])
            bounds.check_row(made, target.dimension)
            if len(row.vector) != _FLOAT_BYTES * target.dimension:
                raise _wrong_length(row, target.dimension)
            if not fit[index]:
                raise _not_unit(float(norms[index]), normalise=target.normalise)
        except InvalidInput as error:
            known_id = row.id[: bounds.MAX_ID_CHARACTERS]
            told = as_value(error.at(f"images[{index}].{error.field}"))
            checked.rejected.append(RejectedRow(index, known_id, told))
        else:
            checked.rows.append(made)
    return checked


def _vectors_of(given: Sequence[GivenRow], dimension: int) -> NDArray[np.float32]:
    """float32 [rows, dimension]; one of another length is zero."""
    size_bytes = _FLOAT_BYTES * dimension
    nothing = bytes(size_bytes)
    content = b"".join(row.vector if len(row.vector) == size_bytes else nothing for row in given)
    return np.frombuffer(content, "<f4").astype(np.float32, copy=False).reshape(-1, dimension)


def _row_of(row: GivenRow, vector: NDArray[np.float32]) -> Row:
    """Raises InvalidInput for a uri or metadata beyond a bound; the rest is checked later."""
    try:
        check_uri(row.uri)
    except InvalidInput as error:
        raise error.at("uri") from None
    return Row(
        id=row.id,
        vector=vector,
        uri=row.uri,
        content_sha256=row.content_sha256,
        width=row.width,
        height=row.height,
        format=row.format,
        indexed_at_ms=row.indexed_at_ms,
        metadata=Metadata.of_text(row.metadata_json, "metadata_json"),
    )


def _wrong_length(row: GivenRow, dimension: int) -> InvalidInput:
    return InvalidInput(
        "vector",
        f"must have {dimension} numbers of {_FLOAT_BYTES} bytes; it has {len(row.vector)} bytes",
    )


def _not_unit(norm: float, *, normalise: bool) -> InvalidInput:
    wanted = "finite and not zero" if normalise else "finite and of unit length"
    return InvalidInput("vector", f"must be {wanted}; its length is {norm:.6g}")
