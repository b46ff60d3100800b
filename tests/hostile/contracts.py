"""Every field of every request, found in the contracts' descriptors, and requests that are
well-formed but for one of them.

Requests are put together as bytes: what is wrong with them no protobuf library would write.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from glimpse.encoder.v1 import encoder_pb2
from glimpse.indexer.v1 import indexer_pb2
from glimpse.query.v1 import query_pb2
from services.common import raw_messages
from tests.hostile.sizes import DIMENSION
from tests.robustness.messages import METHODS, Method, picture

NEIGHBOURS = "neighbours"
"""The collection that the well-behaved use."""

ATTACKED = "attacked"
"""The one that attackers may spoil."""

IMPORTED = "imported"
"""Another one, whose vectors no encoder of ours has made."""

WHOLE = ("google.protobuf.Struct", "google.protobuf.Value")
"""Messages that are attacked as a whole: they hold whatever JSON holds."""

_MAX_DEPTH = 8


@dataclass(frozen=True)
class Times:
    """The same value again and again, in a repeated field."""

    value: Value
    count: int


Value = str | bytes | bool | int | float | Message | Times
"""What a field is given. Bytes are taken as they are: text that is no UTF-8, packed numbers."""


@dataclass(frozen=True)
class Place:
    """A field within a method's request: the way there from the message that the method takes."""

    method: Method
    path: tuple[FieldDescriptor, ...]

    @property
    def field(self) -> FieldDescriptor:
        return self.path[-1]

    @property
    def name(self) -> str:
        """Such as "query.Search.options.filter"."""
        return ".".join([short_name(self.method), *(field.name for field in self.path)])

    @property
    def cycle(self) -> tuple[FieldDescriptor, ...]:
        """The last fields of the path, if they lead from a message to one of its own type."""
        inner = self.field.message_type
        for start, field in enumerate(self.path):
            if inner is not None and field.containing_type is inner:
                return self.path[start:]
        return ()

    def messages(self, *values: Value) -> list[bytes]:
        """A call's messages, with these values in the field and all else as it should be."""
        content = b"".join(encoded(self.field, value) for value in values)
        first = self.path[0]
        opening = [
            _only(self.method.request, field)
            for field in self.method.request.fields
            if self.method.is_stream and field.number < first.number
        ]
        return [*opening, _around(self.method.request, self.path, content)]


def short_name(method: Method) -> str:
    """Such as "query.Search"."""
    return f"{method.service}.{method.path.rpartition('/')[2]}"


def places(methods: Iterable[Method] = METHODS) -> Iterator[Place]:
    """Every field of every method's request, message fields where they can repeat or nest."""
    for method in methods:
        yield from _places(method, method.request, ())


def well_formed(descriptor: Descriptor) -> Message:
    """A message that a service takes; of a type that nobody has described here, an empty one."""
    return _well_formed().get(descriptor.full_name, GetMessageClass(descriptor)())


def well_formed_messages(method: Method) -> list[bytes]:
    """A call that goes well."""
    if method.is_stream:
        return [_only(method.request, field) for field in method.request.fields]
    return [well_formed(method.request).SerializeToString()]


def delimited(number: int, content: bytes) -> bytes:
    """A field of that number: text, bytes, a message, or packed numbers."""
    return b"".join(raw_messages.delimited(number, content))


def encoded(field: FieldDescriptor, value: Value) -> bytes:
    """The field as it stands in its message, number included."""
    if isinstance(value, Times):
        return encoded(field, value.value) * value.count
    if isinstance(value, Message):
        return delimited(field.number, value.SerializeToString())
    if isinstance(value, str | bytes):
        content = value.encode() if isinstance(value, str) else value
        return delimited(field.number, content)
    message = GetMessageClass(field.containing_type)()
    if field.is_repeated:
        getattr(message, field.name).append(value)
    else:
        setattr(message, field.name, value)
    return message.SerializeToString()


def nested(cycle: Sequence[FieldDescriptor], levels: int) -> bytes:
    """What the last field of the cycle holds when the cycle is gone through so many times."""
    content = well_formed(cycle[-1].message_type).SerializeToString()
    for _ in range(levels - 1):
        for field in reversed(cycle):
            content = delimited(field.number, content)
    return content


def _places(
    method: Method, descriptor: Descriptor, path: tuple[FieldDescriptor, ...]
) -> Iterator[Place]:
    for field in descriptor.fields:
        place = Place(method, (*path, field))
        inner = field.message_type
        if inner is None or inner.full_name in WHOLE or place.cycle:
            yield place
            continue
        if field.is_repeated:
            yield place
        if len(path) < _MAX_DEPTH:
            yield from _places(method, inner, place.path)


def _around(descriptor: Descriptor, path: Sequence[FieldDescriptor], content: bytes) -> bytes:
    """A message with the content at the end of the path, and around it what should be there."""
    field, *rest = path
    message = GetMessageClass(descriptor)()
    message.CopyFrom(well_formed(descriptor))
    oneof = field.containing_oneof
    for sibling in (field,) if oneof is None else oneof.fields:
        message.ClearField(sibling.name)
    if rest:
        content = delimited(field.number, _around(field.message_type, rest, content))
    return message.SerializeToString() + content


def _only(descriptor: Descriptor, field: FieldDescriptor) -> bytes:
    """A message that holds this message field and no other."""
    message = GetMessageClass(descriptor)()
    getattr(message, field.name).CopyFrom(well_formed(field.message_type))
    return message.SerializeToString()


@functools.cache
def _well_formed() -> Mapping[str, Message]:
    """By the type's full name."""
    file, text = picture(64, 48), "a white dog"
    condition = query_pb2.Condition(
        comparison=query_pb2.Comparison(field="width", operator=query_pb2.OPERATOR_GREATER)
    )
    condition.comparison.value.number_value = 1
    options = indexer_pb2.IndexOptions(collection=ATTACKED, force=True)
    image = indexer_pb2.Image(id="attacked", content=file)
    vector = np.eye(1, DIMENSION, dtype="<f4").tobytes()
    imported = indexer_pb2.ImportedImage(id="imported", vector=vector)
    messages = (
        encoder_pb2.EncodeTextsRequest(texts=[text]),
        encoder_pb2.EncodeImagesRequest(images=[encoder_pb2.Image(file=file)]),
        encoder_pb2.Image(file=file),
        options,
        image,
        indexer_pb2.BatchIndexImagesRequest(options=options, images=[image]),
        indexer_pb2.DeleteImagesRequest(collection=ATTACKED, filter="width > 1000000"),
        indexer_pb2.CountImagesRequest(collection=ATTACKED, filter="width > 1"),
        indexer_pb2.ListImagesRequest(collection=ATTACKED, output_fields=["uri"]),
        imported,
        indexer_pb2.ImportBatch(images=[imported]),
        indexer_pb2.ImportOptions(collection=IMPORTED, model_name="elsewhere", dimension=DIMENSION),
        indexer_pb2.Ids(ids=["nothing/of/this/name"]),
        indexer_pb2.CreateCollectionRequest(collection=ATTACKED),
        indexer_pb2.GetCollectionRequest(collection=ATTACKED),
        indexer_pb2.DropCollectionRequest(collection="nothing", confirm="nothing"),
        indexer_pb2.CreateGenerationRequest(collection=IMPORTED),
        indexer_pb2.ListGenerationsRequest(collection=IMPORTED),
        # Nobody is to wait for a minute, nor to find another generation than before.
        indexer_pb2.HoldWritesRequest(collection="nothing", hold_ms=1),
        indexer_pb2.SwitchGenerationRequest(collection=IMPORTED),
        indexer_pb2.DropGenerationRequest(collection="nothing", confirm="nothing@0"),
        query_pb2.SearchRequest(collection=ATTACKED, text=text),
        query_pb2.Vector(values=[1.0] * DIMENSION),
        query_pb2.WeightedSum(terms=[query_pb2.Term(text=text)]),
        query_pb2.Term(text=text),
        condition,
        query_pb2.Conditions(conditions=[condition]),
        condition.comparison,
        query_pb2.BatchSearchRequest(
            collection=ATTACKED, queries=[query_pb2.BatchQuery(text=text)]
        ),
        query_pb2.BatchQuery(text=text),
        query_pb2.GetImagesRequest(collection=ATTACKED, ids=["attacked"]),
    )
    return {message.DESCRIPTOR.full_name: message for message in messages}
