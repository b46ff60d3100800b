"""Traces of a service: exported where the settings name an OTLP endpoint, continued from callers'
`traceparent`; spans around calls to peers are glimpse.transport.tracing's.

The shared gRPC instrumentation of OpenTelemetry is not used: its asyncio server breaks streaming
handlers, see docs/decisions/0024-spans-made-here.md.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from glimpse import __version__
from glimpse.transport.channel import proxy_options
from glimpse.transport.tracing import is_on, start_span

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from services.common.settings import ServiceSettings

_EXPORT_TIMEOUT_S = 5.0
_FLUSH_S = 3.0
"""What a stop waits for the collector at most; it is part of the time that a pod takes to end."""

# As OpenTelemetry has it: on the server's side, the others are the caller's own doing.
_FAULTS = frozenset(
    ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
)


def set_up(settings: ServiceSettings) -> Callable[[], None]:
    """Begins to export this process's spans, if the settings say where to; returns what ends it.

    The end sends what is left and takes `_FLUSH_S` at most.
    """
    if settings.otlp_endpoint is None:
        return lambda: None
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    resource = Resource.create(
        {
            "service.namespace": "glimpse",
            "service.name": settings.service,
            "service.version": __version__,
            "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
        }
    )
    provider = TracerProvider(
        ParentBasedTraceIdRatio(settings.trace_ratio), resource, shutdown_on_exit=False
    )
    direct: Any = tuple(proxy_options(urlsplit(settings.otlp_endpoint).netloc))
    exporter = OTLPSpanExporter(
        endpoint=settings.otlp_endpoint, timeout=_EXPORT_TIMEOUT_S, channel_options=direct or None
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)

    def flush() -> None:
        # On a thread of its own: a collector that is away would hold up the stop for half a minute.
        ending = threading.Thread(target=provider.shutdown, name="trace-flush", daemon=True)
        ending.start()
        ending.join(_FLUSH_S)

    return flush


def begin(
    method: str, metadata: Iterable[tuple[str, str | bytes]] | None, request_id: str
) -> Span | None:
    """The span of a call to this service, below the caller's; it is current for the task's rest.

    None where nothing is traced.
    """
    if not is_on():
        return None
    from opentelemetry import context, propagate, trace

    carrier = {key: value for key, value in metadata or () if isinstance(value, str)}
    service, _, name = method.lstrip("/").partition("/")
    attributes = {
        "rpc.system": "grpc",
        "rpc.service": service,
        "rpc.method": name,
        "glimpse.request_id": request_id,
    }
    parent = propagate.extract(carrier)
    span = start_span(method.lstrip("/"), trace.SpanKind.SERVER, attributes, parent)
    # Never detached: gRPC gives each call a task, and with it a context, of its own.
    context.attach(trace.set_span_in_context(span, parent))
    return span


def end(span: Span | None, code: str) -> None:
    """Ends what begin() gave, with the name of the call's status code."""
    if span is None:
        return
    from opentelemetry import trace

    span.set_attribute("rpc.response.status_code", code)
    if code in _FAULTS:
        span.set_attribute("error.type", code)
        span.set_status(trace.StatusCode.ERROR)
    span.end()


def trace_id() -> str:
    """The current trace's id in hex, "" outside of any."""
    if not is_on():
        return ""
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else ""
