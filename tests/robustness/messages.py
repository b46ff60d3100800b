"""Requests that nobody sane sends: bytes without sense, and messages that are nearly right."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass
from typing import Any

from google.protobuf import struct_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from PIL import Image as Picture

from glimpse.encoder.v1 import encoder_pb2
from glimpse.indexer.v1 import indexer_pb2
from glimpse.query.v1 import query_pb2

COLLECTION = "pictures"

_TEXTS = (
    "",
    COLLECTION,
    COLLECTION,
    "nothing here",
    "a white dog",
    "a" * 9_000,
    "'\"\\",
    "\x00\n",
    "😀" * 300,
    "../../etc/passwd",
    'metadata["a"] > 1',
    "id in ['a', ",
    "((((((((((id == 'a'",
)
_NUMBERS = (0, 1, -1, 7, 255, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 2**64 - 1)
_FLOATS = (0.0, 1.0, -1.0, 1e-45, 1e38, 1e308, float("nan"), float("inf"), float("-inf"))
_MAX_DEPTH = 6
_MAX_REPEATS = 4


@dataclass(frozen=True)
class Method:
    """One method of the contracts; on the wire, unary and streaming ones begin in the same way."""

    service: str
    path: str
    request: Descriptor
    response: Descriptor
    is_stream: bool


METHODS = [
    Method(
        name,
        f"/{service.full_name}/{method.name}",
        method.input_type,
        method.output_type,
        method.client_streaming,
    )
    for name, file in (("encoder", encoder_pb2), ("indexer", indexer_pb2), ("query", query_pb2))
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


def request(rng: random.Random, descriptor: Descriptor) -> bytes:
    """Bytes for a method that takes `descriptor`: senseless, nearly right, or right in form."""
    kind = rng.random()
    if kind < 0.2:
        return rng.randbytes(rng.choice((0, 1, 2, 10, 100, 2_000, 100_000)))
    content = filled(rng, descriptor).SerializeToString()
    return content if kind < 0.6 else mutated(rng, content)


def filled(rng: random.Random, descriptor: Descriptor, depth: int = 0) -> Message:
    """A message of this type, with extreme values in about half of its fields."""
    message = GetMessageClass(descriptor)()
    if isinstance(message, struct_pb2.Struct):
        message.update(_json(rng, depth) if rng.random() < 0.9 else {"deep": _nested(50)})
        return message
    for field in descriptor.fields:
        # What every call needs is there more often, or hardly one would get past the first check.
        if depth < _MAX_DEPTH and rng.random() < (0.9 if field.name == "collection" else 0.5):
            _fill(rng, message, field, depth)
    return message


def mutated(rng: random.Random, content: bytes) -> bytes:
    """The bytes with a few of them changed, cut out, doubled, or the end cut off."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed) + 1)
        kind = rng.randrange(4)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del changed[at : at + rng.randint(1, 8)]
        elif kind == 2:
            changed[at:at] = changed[at : at + rng.randint(1, 64)]
        else:
            changed[at:] = rng.randbytes(rng.randrange(16))
    return bytes(changed)


def picture(width: int = 8, height: int = 8) -> bytes:
    """A small PNG."""
    stream = io.BytesIO()
    Picture.new("RGB", (width, height), (width % 256, height % 256, 7)).save(stream, "PNG")
    return stream.getvalue()


def _fill(rng: random.Random, message: Message, field: FieldDescriptor, depth: int) -> None:
    if field.message_type is not None:
        messages = getattr(message, field.name)
        if not field.is_repeated:
            messages.CopyFrom(filled(rng, field.message_type, depth + 1))
            return
        for _ in range(rng.randint(0, _MAX_REPEATS)):
            messages.add().CopyFrom(filled(rng, field.message_type, depth + 1))
    elif field.is_repeated:
        values = [_value(rng, field) for _ in range(rng.choice((0, 1, 3, 32, 2_000)))]
        getattr(message, field.name).extend(values)
    else:
        setattr(message, field.name, _value(rng, field))


def _value(rng: random.Random, field: FieldDescriptor) -> Any:
    kinds = FieldDescriptor
    if field.cpp_type == kinds.CPPTYPE_STRING:
        if field.type == kinds.TYPE_BYTES:
            return _content(rng)
        return rng.choice(_TEXTS)
    if field.cpp_type in (kinds.CPPTYPE_FLOAT, kinds.CPPTYPE_DOUBLE):
        return rng.choice(_FLOATS)
    if field.cpp_type == kinds.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if field.cpp_type == kinds.CPPTYPE_ENUM:
        return rng.choice((0, 1, 2, 3, 77, -1))
    bits = 64 if field.cpp_type in (kinds.CPPTYPE_INT64, kinds.CPPTYPE_UINT64) else 32
    unsigned = field.cpp_type in (kinds.CPPTYPE_UINT32, kinds.CPPTYPE_UINT64)
    least, most = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return rng.choice([number for number in _NUMBERS if least <= number <= most])


def _content(rng: random.Random) -> bytes:
    whole = picture(rng.randint(1, 64), rng.randint(1, 64))
    # A header that promises 4 gigapixels in front of a few bytes.
    bomb = whole[:16] + b"\x00\x01\x00\x00" * 2 + whole[24:]
    return rng.choice((b"", whole, whole[: len(whole) // 2], mutated(rng, whole), bomb, b"RIFF"))


def _json(rng: random.Random, depth: int) -> dict[str, Any]:
    values = (None, True, 1.5, 1e308, "text", ["a", [1.0]], {"b": {}}, _nested(rng.randint(1, 20)))
    return {rng.choice(_TEXTS): rng.choice(values) for _ in range(rng.randint(0, 5 - depth // 2))}


def _nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"d": value}
    return value
