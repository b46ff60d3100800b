"""Server reflection that finds methods too, as its protocol asks; answering is grpcio's job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from grpc_reflection.v1alpha import reflection, reflection_pb2

NAMES = ("grpc.reflection.v1.ServerReflection", reflection.SERVICE_NAME)
"""Both versions have the same messages, field by field; grpcio's package has one of them."""


def add_reflection(names: Sequence[str], server: grpc.aio.Server) -> None:
    """Lets callers ask `server` for the contracts of these services, and of reflection itself."""
    pool: Any = _Pool()
    servicer: Any = reflection.aio.ReflectionServicer((*names, reflection.SERVICE_NAME), pool=pool)
    answer = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    methods = {"ServerReflectionInfo": answer}
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(name, methods) for name in NAMES]
    )


class _Pool:
    """The process' descriptors, where "package.Service.Method" is a symbol as well.

    Protobuf's own pool for Python finds services and messages only, and ghz asks for the method.
    """

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> Any:
        """Raises KeyError where there is no such symbol."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            return (
                self._pool.FindServiceByName(service)
                .methods_by_name[method]
                .containing_service.file
            )
