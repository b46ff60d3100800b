"""How collections and rows lie in Milvus: schema, marks, parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from pymilvus import CollectionSchema, DataType, FieldSchema
from pymilvus.milvus_client.index import IndexParams

from services.vectors.generation_names import serving_alias, stored_name
from services.vectors.records import CollectionSpec, IndexKind, Metric, Row

MARKS = "glimpse"
HELD = "glimpse_held_until_ms"
INDEX_NAME = "vector"
# VARCHAR lengths count bytes; a character has four at most.
_TEXT_BYTES = {"uri": 4 * 2_048, "content_sha256": 4 * 64, "format": 4 * 16}
_INDEX_PARAMETERS: dict[str, dict[str, Any]] = {
    "AUTOINDEX": {},
    "FLAT": {},
    "IVF_FLAT": {"nlist": 128},
    "IVF_SQ8": {"nlist": 128},
    "HNSW": {"M": 16, "efConstruction": 200},
    "HNSW_SQ": {"M": 16, "efConstruction": 200, "sq_type": "SQ8"},
    "DISKANN": {},
}


@dataclass(frozen=True)
class Marks:
    """What we write on a collection of ours, besides its rows."""

    model_name: str
    model_fingerprint: str
    index_kind: IndexKind
    metric: Metric
    created_at_ms: int
    version: int = 1
    # Of a generation that is not its collection's first, whose it is and which; releases before
    # there were generations take no notice of what has these.
    collection: str = ""
    generation: int = 0

    def to_json(self) -> str:
        marks = asdict(self)
        if not self.collection:
            del marks["collection"], marks["generation"]
        return json.dumps(marks)


@dataclass(frozen=True)
class Known:
    """A collection of ours as Milvus describes it, and what Milvus calls it.

    A generation that is not its collection's first has marks that say whose it is.
    """

    marks: Marks
    dimension: int
    milvus_name: str
    held_until_ms: int = 0

    @property
    def spec(self) -> CollectionSpec:
        marks = self.marks
        return CollectionSpec(
            name=marks.collection or self.milvus_name,
            dimension=self.dimension,
            model_name=marks.model_name,
            model_fingerprint=marks.model_fingerprint,
            index_kind=marks.index_kind,
            metric=marks.metric,
            generation=marks.generation,
            created_at_ms=marks.created_at_ms,
            held_until_ms=self.held_until_ms,
        )


def schema_of(spec: CollectionSpec, marks: Marks) -> CollectionSchema:
    fields = [
        FieldSchema("id", DataType.VARCHAR, is_primary=True, max_length=128),
        FieldSchema("vector", DataType.FLOAT_VECTOR, dim=spec.dimension),
        *(
            FieldSchema(name, DataType.VARCHAR, max_length=size)
            for name, size in _TEXT_BYTES.items()
        ),
        FieldSchema("width", DataType.INT32),
        FieldSchema("height", DataType.INT32),
        FieldSchema("indexed_at_ms", DataType.INT64),
        FieldSchema("metadata", DataType.JSON),
    ]
    # The marks are written twice: Milvus Lite keeps no description, and properties are younger
    # than descriptions on servers.
    return CollectionSchema(fields, description=marks.to_json(), enable_dynamic_field=False)


def known_of(description: Mapping[str, Any], name: str) -> Known | None:
    """From what describe_collection gives for a name, or for the alias of the generation that
    serves; None for a collection that others made.

    Marks of a generation on a collection of another name, as a copy of it has, do not count.
    """
    properties = description.get("properties") or {}
    text = properties.get(MARKS) or description.get("description") or ""
    try:
        marks = Marks(**json.loads(text))
        held_until_ms = int(properties.get(HELD, 0))
    except (ValueError, TypeError):
        return None
    dimensions = [f["params"]["dim"] for f in description["fields"] if f["name"] == "vector"]
    if not dimensions:
        return None
    if marks.collection:
        own_name = stored_name(marks.collection, marks.generation)
        if name in (own_name, serving_alias(marks.collection)):
            return Known(marks, int(dimensions[0]), own_name, held_until_ms)
        marks = replace(marks, collection="", generation=0)
    return Known(marks, int(dimensions[0]), name, held_until_ms)


def index_of(milvus_kind: str, metric: Metric) -> IndexParams:
    parameters = IndexParams()
    parameters.add_index(
        "vector",
        index_type=milvus_kind,
        index_name=INDEX_NAME,
        metric_type=metric,
        params=_INDEX_PARAMETERS[milvus_kind],
    )
    return parameters


def search_parameters(window: int) -> dict[str, Any]:
    """For the best `window` rows. Each kind of index reads its own and passes over the others."""
    return {
        "params": {
            "ef": max(128, 2 * window),
            "nprobe": 32,
            "search_list": max(128, 2 * window),
            "level": 2,
        }
    }


def entity_bytes(row: Row) -> int:
    """About what the row takes in a message."""
    return 4 * row.vector.size + 4 * len(row.uri) + row.metadata.size_bytes + 512


def fields_of(entity: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    values = {name: entity[name] for name in fields}
    if "vector" in values:
        values["vector"] = np.asarray(values["vector"], dtype=np.float32)
    return values
