"""Rows as the columns of Milvus' messages, both ways, past pymilvus' conversions, which make a
Python number of each value of a vector: that takes longer than all the rest of a row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymilvus.grpc_gen import milvus_pb2, schema_pb2

from services.common import raw_messages
from services.vectors.milvus import schema
from services.vectors.records import Row

_TEXTS = ("id", "uri", "content_sha256", "format")
_NUMBERS = ("width", "height")


def upsert_request(collection: str, rows: Sequence[Row]) -> milvus_pb2.UpsertRequest:
    """The message that upserts rows of one dimension, with the fields of schema.schema_of."""
    request = milvus_pb2.UpsertRequest(collection_name=collection, num_rows=len(rows))

    def add(name: str, kind: schema_pb2.DataType) -> schema_pb2.FieldData:
        return request.fields_data.add(field_name=name, type=kind)

    kinds = schema_pb2.DataType
    _add_vectors(add("vector", kinds.FloatVector).vectors, rows)
    for name in _TEXTS:
        add(name, kinds.VarChar).scalars.string_data.data.extend(getattr(row, name) for row in rows)
    for name in _NUMBERS:
        add(name, kinds.Int32).scalars.int_data.data.extend(getattr(row, name) for row in rows)
    add("indexed_at_ms", kinds.Int64).scalars.long_data.data.extend(
        row.indexed_at_ms for row in rows
    )
    add("metadata", kinds.JSON).scalars.json_data.data.extend(
        row.metadata.text.encode() for row in rows
    )
    return request


def _add_vectors(field: schema_pb2.VectorField, rows: Sequence[Row]) -> None:
    vectors = np.stack([row.vector for row in rows]).astype("<f4", copy=False)
    content = vectors.reshape(-1).view(np.uint8).data
    field.dim = vectors.shape[1]
    field.float_vector.MergeFromString(
        b"".join(raw_messages.delimited(schema_pb2.FloatArray.DATA_FIELD_NUMBER, content))
    )


def rows_of(
    entities: Any, fields: Sequence[str], *, metadata_as_text: bool = False
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Ids and fields of the rows that pymilvus' query gives, each read out of it in its turn;
    metadata as an object, or as the text that was written."""
    vectors = _take_vectors(entities) if "vector" in fields else None
    texts = _take_texts(entities) if metadata_as_text and "metadata" in fields else None
    taken = {"vector"} if vectors is not None else set()
    taken |= {"metadata"} if texts is not None else set()
    others = [name for name in fields if name not in taken]
    # Where no column is left, pymilvus' own iterator would look for one, row by row.
    read = entities if getattr(entities, "_lazy_field_data", None) else list.__iter__(entities)
    for number, entity in enumerate(read):
        values = schema.fields_of(entity, others)
        if vectors is not None:
            values["vector"] = vectors[number].copy()  # or one would keep all of them
        if texts is not None:
            values["metadata"] = texts[number].decode()
        elif metadata_as_text and "metadata" in values:
            values["metadata"] = json.dumps(values["metadata"], ensure_ascii=False)
        yield entity["id"], values


def _take_vectors(entities: Any) -> NDArray[np.float32] | None:
    """float32 [rows, dimension]; None where the answer is not as it is in the pinned release."""
    column = _unread(entities, "vector")
    if column is None:
        return None
    dimension = column.vectors.dim
    content = column.vectors.float_vector.SerializeToString()  # a header, and the numbers
    size_bytes = 4 * dimension * len(entities)
    if len(content) < size_bytes:
        return None
    entities._lazy_field_data.remove(column)
    numbers = np.frombuffer(content, "<f4", offset=len(content) - size_bytes)
    return numbers.astype(np.float32, copy=False).reshape(len(entities), dimension)


def _take_texts(entities: Any) -> Sequence[bytes] | None:
    """Metadata as JSON, likewise."""
    column = _unread(entities, "metadata")
    if column is None or len(column.scalars.json_data.data) != len(entities):
        return None
    entities._lazy_field_data.remove(column)
    return column.scalars.json_data.data


def _unread(entities: Any, name: str) -> Any:
    """A column that pymilvus has not read out of its answer yet; it would, row by row."""
    unread: list[Any] = getattr(entities, "_lazy_field_data", [])
    found = [column for column in unread if column.field_name == name]
    return found[0] if len(found) == 1 and not len(found[0].valid_data) else None
