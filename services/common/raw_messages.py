"""Large messages put together as bytes: each part is copied once, and not on the event loop.

protobuf would copy a part for each message around it, and twice more to serialise them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from google.protobuf.message import Message

# Beyond it, Python gives its lock away while it joins; a thread takes a tenth of a millisecond.
_MAX_INLINE_BYTES = 2**20
_DELIMITED = 2  # the wire type of texts, bytes and messages

Part = bytes | memoryview


def delimited(number: int, *parts: Part) -> list[Part]:
    """The parts of a field that holds text, bytes or a message, which `parts` make up."""
    return [_varint(number << 3 | _DELIMITED) + _varint(size_of(parts)), *parts]


def size_of(parts: Iterable[Part]) -> int:
    """How many bytes they are together."""
    return sum(map(len, parts))


async def joined(parts: list[Part], rest: Message) -> bytes:
    """The serialised message that has the fields of `parts` and those of `rest`."""
    parts = [*parts, rest.SerializeToString()]
    if size_of(parts) <= _MAX_INLINE_BYTES:
        return b"".join(parts)
    return await asyncio.to_thread(b"".join, parts)


def _varint(number: int) -> bytes:
    content = bytearray()
    while number > 0x7F:
        content.append(number & 0x7F | 0x80)
        number >>= 7
    content.append(number)
    return bytes(content)
