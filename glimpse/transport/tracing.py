"""Spans around calls, in processes that have OpenTelemetry loaded; setting it up and exporting is
the job of whoever loaded it.

Nothing is imported here before somebody else has imported OpenTelemetry. Who traces has done so;
who does not pays for one look into sys.modules per call.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import grpc
from google.protobuf.message import Message

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

Metadata = tuple[tuple[str, str], ...]


def is_on() -> bool:
    """Whether this process may be tracing."""
    return "opentelemetry.trace" in sys.modules


def is_within_trace() -> bool:
    """Whether a span is current, be it one that is kept or not."""
    if not is_on():
        return False
    from opentelemetry import trace

    return trace.get_current_span().get_span_context().is_valid


@contextlib.contextmanager
def calling(request: Message) -> Iterator[Metadata]:
    """A client's span around the call that takes `request`, and the metadata that tell the server.

    The span is not made the current one, so that the block may be a generator's.
    """
    if not is_on():
        yield ()
        return
    from opentelemetry import propagate, trace

    service, method = _method_of(request)
    attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
    with client_span(f"{service}/{method}", attributes) as span:
        carrier: dict[str, str] = {}
        propagate.inject(carrier, trace.set_span_in_context(span))
        yield tuple(carrier.items())


@contextlib.contextmanager
def client_span(name: str, attributes: dict[str, str]) -> Iterator[Span]:
    """A span around a request to another process, below the current one; failures mark it.

    Call it only where is_on().
    """
    from opentelemetry import trace

    span = start_span(name, trace.SpanKind.CLIENT, attributes)
    try:
        yield span
    except GeneratorExit:  # the caller wants no more of a stream, which is no failure
        raise
    except BaseException as error:
        span.set_attribute("error.type", _kind(error))
        span.set_status(trace.StatusCode.ERROR)
        raise
    finally:
        span.end()


def start_span(
    name: str,
    kind: object,
    attributes: dict[str, str],
    parent: Context | None = None,
) -> Span:
    """A span below `parent`, or else below the current one; whoever asked for it ends it."""
    from opentelemetry import trace

    tracer = trace.get_tracer("glimpse")
    return tracer.start_span(name, parent, kind, attributes)  # pyright: ignore[reportArgumentType]


def _kind(error: BaseException) -> str:
    """An error's reason, else its status code, else its type."""
    if isinstance(error, grpc.RpcError) and isinstance(error, grpc.Call):
        return error.code().name
    return getattr(error, "reason", "") or type(error).__name__


def _method_of(request: Message) -> tuple[str, str]:
    """Service and method: in glimpse's contracts each method has a request type of its own."""
    described = request.DESCRIPTOR
    for service in described.file.services_by_name.values():
        for method in service.methods:
            if method.input_type is described:
                return service.full_name, method.name
    raise TypeError(f"no method takes {described.full_name}")
