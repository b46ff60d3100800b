"""The contract's messages from and to the indexer's own records; nothing is decided here."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any, get_args

from glimpse.errors import InvalidInput, as_value
from glimpse.indexer.v1 import indexer_pb2 as pb
from glimpse.results import Outcome
from glimpse.transport.status import to_status
from services.common.json_values import write_object
from services.common.message_fields import Content, parse, take_apart
from services.indexer.bounds import MetadataBudget
from services.indexer.records import GenerationInfo, Image, ImageResult, ListedCollection
from services.indexer.struct_values import object_of
from services.vectors.bounds import LARGE_FIELDS
from services.vectors.metadata import Metadata
from services.vectors.records import CollectionInfo, IndexKind, Metric, now_ms

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
    return object_of(struct, MetadataBudget(len(struct)), "image.metadata")


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
        described_at_ms=now_ms(),
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
