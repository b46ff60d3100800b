"""Bytes become requests, and answers bytes: large ones not in the turn of the event loop in which
gRPC has copied them.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor

from services.common.memory import HEAP
from services.common.message_fields import check_fields, parsed

_LARGE_BYTES = 2**20

Parser = Callable[[bytes], Awaitable[Any]]
Behaviour = TypeVar("Behaviour", bound=Callable[..., Any])


def takes_bytes(behaviour: Behaviour) -> Behaviour:
    """Marks a servicer's method that is given its requests as bytes, to parse them part by part."""
    behaviour.takes_bytes = True  # type: ignore[attr-defined]
    return behaviour


def parser_of(handler: Any, method: str) -> Parser:
    """Makes bytes what gRPC's handler of /package.Service/Method takes.

    Raises InvalidInput for what is no message, or one of too many fields; within the call, where
    gRPC itself would say UNKNOWN.
    """
    behaviour = handler.unary_unary or handler.stream_stream
    parses_itself = getattr(behaviour, "takes_bytes", False)
    parse, kind = handler.request_deserializer, _request_kind(method)

    async def parser(content: bytes) -> Any:
        if len(content) > _LARGE_BYTES:
            HEAP.note()
            await asyncio.sleep(0)  # copying it has taken long enough: others go first
        if parses_itself:
            return content
        if kind is not None:
            check_fields(content, kind)
        return parsed(parse, content)

    return parser


def serializer_of(handler: Any) -> Callable[[Any], bytes]:
    """Makes answers of gRPC's handler bytes; methods may answer with bytes, too."""
    serialise = handler.response_serializer
    return lambda answer: answer if isinstance(answer, bytes) else serialise(answer)


@functools.lru_cache(256)
def _request_kind(method: str) -> Descriptor | None:
    """What a method takes; None for one of which no contract is loaded."""
    try:
        name = method.removeprefix("/").replace("/", ".")
        return descriptor_pool.Default().FindMethodByName(name).input_type
    except KeyError:
        return None
