"""The contract's messages from and to the indexer's own records; nothing is decided here."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any, get_args

from google.protobuf import struct_pb2

from glimpse.errors import InvalidInput, as_value
from glimpse.indexer.v1 import indexer_pb2 as pb
from glimpse.results import Outcome
from glimpse.transport.status import to_status
from services.common.json_values import write_object
from services.common.message_fields import Content, parse, take_apart
from services.indexer.bounds import MetadataBudget
from services.indexer.records import GenerationInfo, Image, ImageResult, ListedCollection
from services.vectors.bounds import LARGE_FIELDS
from services.vectors.metadata import Metadata
from services.vectors.records import CollectionInfo, IndexKind, Metric

_OUTCOMES = {
    Outcome.INDEXED: pb.OUTCOME_INDEXED,
    Outcome.UNCHANGED: pb.OUTCOME_UNCHANGED,
    Outcome.FAILED: pb.OUTCOME_FAILED,
}
_METRICS: dict[int, Metric] = {
    pb.METRIC_UNSPECIFIED: "IP",
    pb.METRIC_INNER_PRODUCT: "IP",
    pb.METRIC_COSINE: "COSINE",
}
_METRIC_VALUES = {"IP": pb.METRIC_INNER_PRODUCT, "COSINE": pb.METRIC_COSINE}
_INDEX_KINDS: dict[int, IndexKind] = {
    pb.INDEX_KIND_UNSPECIFIED: "AUTO",
    **{pb.IndexKind.Value(f"INDEX_KIND_{kind}"): kind for kind in get_args(IndexKind)},
}
_INDEX_KIND_VALUES = {
    kind: pb.IndexKind.Name(value).replace("INDEX_KIND_UNSPECIFIED", "INDEX_KIND_AUTO")
    for value, kind in _INDEX_KINDS.items()
}
# Past it a double does not hold every whole number any more.
_MAX_WHOLE_NUMBER = 2**53


def batch(request: bytes) -> tuple[pb.IndexOptions, list[memoryview]]:
    """The options of a serialised BatchIndexImagesRequest, and its images, not parsed yet."""
    rest, images = take_apart(request, pb.BatchIndexImagesRequest.IMAGES_FIELD_NUMBER)
    return parse(pb.BatchIndexImagesRequest, rest).options, [content for _, content in images]


def stream_message(request: bytes) -> pb.IndexOptions | memoryview | None:
    """What a serialised IndexImagesRequest holds: options, an image, not parsed yet, or nothing."""
    rest, images = take_apart(request, pb.IndexImagesRequest.IMAGE_FIELD_NUMBER)
    if images:
        return images[-1][1]
    message = parse(pb.IndexImagesRequest, rest)
    return message.options if message.HasField("options") else None


def image(message: memoryview) -> tuple[Image, Content]:
    """The image of a serialised message; and its metadata, a Struct that is not parsed yet."""
    rest, large = take_apart(message, pb.Image.CONTENT_FIELD_NUMBER, pb.Image.METADATA_FIELD_NUMBER)
    fields = dict(large)
    small = parse(pb.Image, rest)
    content = fields.get(pb.Image.CONTENT_FIELD_NUMBER, b"")
    given = Image(
        sequence=small.sequence,
        content=content,
        id=small.id,
        uri=small.uri,
        indexed_at_ms=small.indexed_at_ms,
    )
    return given, fields.get(pb.Image.METADATA_FIELD_NUMBER, b"")


def with_metadata(given: Image, struct: Content) -> Image:
    """The image with the metadata of a serialised Struct, or a `problem` with them.

    Those of more than 16 KiB as JSON are not converted. A thousand keys take 2 ms.
    """
    if not struct:
        return given
    try:
        return replace(given, metadata=Metadata.of(metadata(struct), "image.metadata"))
    except InvalidInput as error:
        return replace(given, problem=as_value(error))


def metadata(struct: Content) -> dict[str, Any]:
    """A JSON object, of a serialised Struct; whole numbers up to 2^53 as integers.

    Raises InvalidInput past 16 KiB.
    """
    budget = MetadataBudget(len(struct))
    return _object(parse(struct_pb2.Struct, bytes(struct), "image.metadata"), budget)


def acknowledgement(record: ImageResult, sequence: int | None = None) -> pb.Acknowledgement:
    """The message of an acknowledgement; `sequence` replaces the record's number."""
    return pb.Acknowledgement(
        sequence=record.sequence if sequence is None else sequence,
        id=record.id,
        outcome=_OUTCOMES[record.outcome],
        error=None if record.error is None else to_status(record.error),
    )


def index_kind(value: int) -> IndexKind:
    """The store's name of an index kind; raises InvalidInput for a number that has none."""
    if value not in _INDEX_KINDS:
        raise InvalidInput("index_kind", f"{value} is not a kind of index")
    return _INDEX_KINDS[value]


def metric(value: int) -> Metric:
    """The store's name of a metric; raises InvalidInput for a number that has none."""
    if value not in _METRICS:
        raise InvalidInput("metric", f"{value} is not a metric")
    return _METRICS[value]


def collection(info: CollectionInfo) -> pb.Collection:
    return pb.Collection(
        name=info.name,
        model_name=info.model_name,
        model_fingerprint=info.model_fingerprint,
        dimension=info.dimension,
        index_kind=_INDEX_KIND_VALUES[info.index_kind],
        index_state=info.index_state,
        metric=_METRIC_VALUES[info.metric],
        rows=info.rows,
        bytes=info.bytes,
        created_at_ms=info.created_at_ms,
        indexed_rows=info.indexed_rows,
        pending_rows=info.pending_rows,
        index_left_ms=math.ceil(1000 * (info.index_left_s or 0)),
    )


def generation(info: GenerationInfo) -> pb.Generation:
    return pb.Generation(
        number=info.number, serving=info.is_serving, collection=collection(info.info)
    )


def listed_collection(listed: ListedCollection) -> pb.Collection:
    if listed.info is not None:
        return collection(listed.info)
    error = None if listed.error is None else to_status(listed.error)
    return pb.Collection(name=listed.name, error=error)


def listed_image(identity: str, fields: dict[str, Any]) -> bytes:
    """An image of a list, serialised; attributes that are not in `fields` stay unset. Metadata is
    JSON text."""
    small = {name: value for name, value in fields.items() if name not in LARGE_FIELDS}
    message = pb.ListedImage(id=identity, **small)
    if "metadata" in fields:
        write_object(message.metadata, json.loads(fields["metadata"]))
    if "vector" in fields:
        message.vector.extend(fields["vector"].tolist())  # five times as fast as the array itself
    return message.SerializeToString()


def packed_image(identity: str, fields: dict[str, Any]) -> bytes:
    """The same, with the vector as bytes and metadata as text."""
    small = {name: value for name, value in fields.items() if name not in LARGE_FIELDS}
    message = pb.ListedImage(id=identity, **small)
    if "metadata" in fields:
        message.metadata_json = fields["metadata"]
    if "vector" in fields:
        message.packed_vector = fields["vector"].astype("<f4", copy=False).tobytes()
    return message.SerializeToString()


# Bytes of JSON are counted as of `{"key": value, "key": [value, value]}`, each value with the comma
# and the space behind it; what the last of a row saves, its two brackets take.


def _object(struct: struct_pb2.Struct, budget: MetadataBudget) -> dict[str, Any]:
    found = {}
    for key, value in struct.fields.items():
        budget.spend(len(key) + 4)
        found[key] = _value(value, budget)
    return found


def _value(value: struct_pb2.Value, budget: MetadataBudget) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        budget.spend(3)
        number = value.number_value
        whole = number.is_integer() and abs(number) <= _MAX_WHOLE_NUMBER
        return int(number) if whole else number
    if kind == "string_value":
        text = value.string_value
        budget.spend(len(text) + 4)
        return text
    if kind == "struct_value":
        budget.spend(2 if value.struct_value.fields else 4)
        return _object(value.struct_value, budget)
    if kind == "list_value":
        values = value.list_value.values
        budget.spend(2 if values else 4)
        return [_value(item, budget) for item in values]
    budget.spend(6)
    return value.bool_value if kind == "bool_value" else None
