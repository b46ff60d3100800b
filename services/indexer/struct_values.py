"""A serialised google.protobuf.Struct becomes a JSON object.

Without a message for each of its values, most of which are numbers and short texts: their bytes
tell them. To make that message and ask it what it holds takes most of the time otherwise.
"""

from __future__ import annotations

import functools
import struct
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2
from google.protobuf.message import Message

from services.common.message_fields import Content, parse
from services.indexer.bounds import MetadataBudget

_PACKAGE = "glimpse.struct_values"
# Past it a double does not hold every whole number any more.
_MAX_WHOLE_NUMBER = 2**53

# A Value that holds a number, or a text of up to 127 bytes, and nothing else: a tag, for the text
# its length, and the content.
_NUMBER_TAG, _TEXT_TAG = (number << 3 | wire_type for number, wire_type in ((2, 1), (3, 2)))
_NUMBER_BYTES, _MAX_TEXT_BYTES = 1 + 8, 0x7F
_double = struct.Struct("<d").unpack_from

# Bytes of JSON are counted as of `{"key": value, "key": [value, value]}`, each value of one byte at
# least and with the comma and the space behind it; what the last of a row saves, its brackets take.
_ENTRY_BYTES, _ITEM_BYTES = len('"": 1, '), len("1, ")


def object_of(content: Content, budget: MetadataBudget, field: str) -> dict[str, Any]:
    """A JSON object, whole numbers up to 2^53 as integers.

    Raises InvalidInput, naming `field`, for what is no Struct, and where its entries take more than
    the budget, before they are converted.
    """
    values = parse(_entries(), bytes(content), field).fields  # type: ignore[attr-defined]
    _spend_on(values, budget)
    return {
        key: _number(_double(value, 1)[0])
        if len(value) == _NUMBER_BYTES and value[0] == _NUMBER_TAG
        else _no_number(value, budget, field)
        for key, value in values.items()
    }


def _no_number(content: bytes, budget: MetadataBudget, field: str) -> Any:
    text_bytes = len(content) - 2
    if 0 <= text_bytes <= _MAX_TEXT_BYTES and content[0] == _TEXT_TAG and content[1] == text_bytes:
        text = content[2:]
        if text.isascii():  # what is no UTF-8 at all, the parser refuses
            return text.decode("ascii")
    return _value(parse(struct_pb2.Value, content, field), budget)


def _value(value: struct_pb2.Value, budget: MetadataBudget) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        return _number(value.number_value)
    if kind == "string_value":
        return value.string_value
    if kind == "struct_value":
        fields = value.struct_value.fields
        _spend_on(fields, budget)
        return {key: _value(item, budget) for key, item in fields.items()}
    if kind == "list_value":
        values = value.list_value.values
        budget.spend(_ITEM_BYTES * len(values))
        return [_value(item, budget) for item in values]
    return value.bool_value if kind == "bool_value" else None


def _number(number: float) -> float:
    return int(number) if number.is_integer() and abs(number) <= _MAX_WHOLE_NUMBER else number


def _spend_on(entries: Any, budget: MetadataBudget) -> None:
    budget.spend(sum(map(len, entries)) + _ENTRY_BYTES * len(entries))


@functools.cache
def _entries() -> type[Message]:
    """The type of a Struct whose values are bytes: `map<string, bytes> fields = 1`."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="glimpse/struct_values.proto", package=_PACKAGE, syntax="proto3"
    )
    message = file.message_type.add(name="Entries")
    entry = message.nested_type.add(name="FieldsEntry")
    entry.options.map_entry = True
    one, many = kinds.LABEL_OPTIONAL, kinds.LABEL_REPEATED
    entry.field.add(name="key", number=1, type=kinds.TYPE_STRING, label=one)
    entry.field.add(name="value", number=2, type=kinds.TYPE_BYTES, label=one)
    name = f".{_PACKAGE}.Entries.FieldsEntry"
    message.field.add(name="fields", number=1, type=kinds.TYPE_MESSAGE, label=many, type_name=name)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Entries"))
