"""Rows as columns of Milvus' messages: as pymilvus would make them, and as it has read them."""

from __future__ import annotations

import numpy as np
from pymilvus.client.prepare import Prepare

from benchmarks.vectors import entity_of
from services.vectors.metadata import Metadata
from services.vectors.milvus import columns, schema
from services.vectors.milvus.schema import Marks
from services.vectors.records import CollectionSpec, Row

SPEC = CollectionSpec("pictures", 3, "model", "fingerprint")
ROWS = [
    Row(
        id=f"p{number}",
        vector=np.array([0.1, 0.2, number], np.float32),
        uri="s3://ü/犬.jpg",
        content_sha256="ab" * 32,
        width=640,
        height=2**31 - 1,
        format="JPEG",
        indexed_at_ms=2**63 - 1,
        metadata=Metadata.of({"n": 2**53 + 1, "ü": [None, {"犬": 1.5}]}),
    )
    for number in range(3)
]


def test_the_request_holds_the_columns_that_pymilvus_would_write():
    fields = schema.schema_of(SPEC, Marks("", "", "AUTO", "IP", 0)).to_dict()["fields"]
    theirs = Prepare.row_upsert_param("pictures", [entity_of(row) for row in ROWS], "", fields)
    ours = columns.upsert_request("pictures", ROWS)
    assert {column.field_name: column for column in ours.fields_data} == {
        column.field_name: column for column in theirs.fields_data
    }
    assert (ours.collection_name, ours.num_rows) == (theirs.collection_name, theirs.num_rows)


def test_an_answer_that_pymilvus_has_read_already_becomes_the_same_rows():
    entities = [{"id": "a", "vector": [0.5, 1.5], "metadata": {"ü": 2**53 + 1}, "width": 7}]
    ((identity, values),) = columns.rows_of(
        entities, ("metadata", "vector", "width"), metadata_as_text=True
    )
    assert (identity, values["width"]) == ("a", 7)
    assert values["metadata"] == '{"ü": 9007199254740993}'
    assert values["vector"].tobytes() == np.array([0.5, 1.5], "<f4").tobytes()
