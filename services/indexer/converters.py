"""The contract's messages from and to the indexer's own records; nothing is decided here."""

from __future__ import annotations

from typing import Any, get_args

from google.protobuf import struct_pb2

from glimpse.errors import InvalidInput
from glimpse.indexer.v1 import indexer_pb2 as pb
from glimpse.transport.status import to_status
from services.indexer.records import Image, ImageResult, Outcome
from services.vectors.store import CollectionInfo, IndexKind, Metric

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


def image(message: pb.Image, sequence: int | None = None) -> Image:
    """The image of a message; `sequence` replaces the caller's number."""
    return Image(
        sequence=message.sequence if sequence is None else sequence,
        content=message.content,
        id=message.id,
        uri=message.uri,
        metadata=metadata(message.metadata) if message.HasField("metadata") else {},
    )


def metadata(struct: struct_pb2.Struct) -> dict[str, Any]:
    """A JSON object; whole numbers up to 2^53 as integers."""
    return {key: _value(value) for key, value in struct.fields.items()}


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
        raise InvalidInput("index_kind", f"{value} is no kind of index")
    return _INDEX_KINDS[value]


def metric(value: int) -> Metric:
    """The store's name of a metric; raises InvalidInput for a number that has none."""
    if value not in _METRICS:
        raise InvalidInput("metric", f"{value} is no metric")
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
    )


def _value(value: struct_pb2.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        number = value.number_value
        whole = number.is_integer() and abs(number) <= _MAX_WHOLE_NUMBER
        return int(number) if whole else number
    if kind == "struct_value":
        return metadata(value.struct_value)
    if kind == "list_value":
        return [_value(item) for item in value.list_value.values]
    if kind in ("string_value", "bool_value"):
        return getattr(value, kind)
    return None
