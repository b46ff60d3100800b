"""JSON becomes a google.protobuf.Struct."""

from __future__ import annotations

from typing import Any

from google.protobuf import struct_pb2


def write_object(message: struct_pb2.Struct, value: dict[str, Any]) -> None:
    """As Struct.update does, in a fifth of its time for long lists; an empty object is there, too.

    `message` is a field of another one.
    """
    message.SetInParent()
    for key, item in value.items():
        _write(message.fields[key], item)


def _write(message: struct_pb2.Value, value: Any) -> None:
    if isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, (int, float)):
        message.number_value = value
    elif isinstance(value, str):
        message.string_value = value
    elif value is None:
        message.null_value = struct_pb2.NULL_VALUE
    elif isinstance(value, dict):
        write_object(message.struct_value, value)
    else:
        message.list_value.SetInParent()
        add = message.list_value.values.add
        for item in value:
            _write(add(), item)
