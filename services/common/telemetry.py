"""Logs, the request's id, and the metrics all services have; a service's own live with it, traces
are services.common.tracing's."""

from __future__ import annotations

import logging
import sys
import threading
from contextvars import ContextVar
from datetime import datetime

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from pythonjsonlogger.json import JsonFormatter

from services.common import tracing

log = logging.getLogger(__name__)

request_id: ContextVar[str] = ContextVar("request_id", default="")

LATENCY_BUCKETS_S = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
    60,
)
"""Of every histogram of durations: what one took is found in the others."""


class RpcMetrics:
    """Counts, latencies and calls in flight, by method; one per registry."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.calls = Counter(
            "glimpse_rpc_calls", "Completed calls", ["method", "code"], registry=registry
        )
        self.latency_s = Histogram(
            "glimpse_rpc_latency_seconds",
            "Calls' duration",
            ["method", "code"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.in_flight = Gauge(
            "glimpse_rpc_in_flight",
            "Calls in progress, also those that wait for a place",
            ["method"],
            registry=registry,
        )
        self.waiting = Gauge(
            "glimpse_rpc_waiting", "Calls that wait for a place", registry=registry
        )


def set_up_logs(level: str, log_format: str, service: str) -> None:
    """Sends every log line of the process to standard error, as JSON or as text."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_add_fields)
    if log_format == "json":
        fields = "%(time)s %(levelname)s %(name)s %(message)s %(request_id)s %(trace_id)s"
        renamed = {"levelname": "level", "name": "logger"}
        handler.setFormatter(
            JsonFormatter(fields, rename_fields=renamed, static_fields={"service": service})
        )
    else:
        handler.setFormatter(logging.Formatter(f"%(time)s {service} %(levelname)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    threading.excepthook = _log_end_of_thread
    sys.unraisablehook = _log_unraisable
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_not_callers_doing)


def _add_fields(record: logging.LogRecord) -> bool:
    # With the offset: nobody who reads it elsewhere has to know this machine's time zone.
    record.time = (
        datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")
    )
    record.request_id = request_id.get()
    record.trace_id = tracing.trace_id()
    return True


def _log_end_of_thread(end: threading.ExceptHookArgs) -> None:
    name = end.thread.name if end.thread is not None else "unknown"
    log.error("the thread %s ends on an error", name, exc_info=end.exc_value)


def _log_unraisable(ignored: sys.UnraisableHookArgs) -> None:
    what = ignored.err_msg or "an error where none can be raised"
    log.error("%s: %r", what, ignored.object, exc_info=ignored.exc_value)


def _is_not_callers_doing(record: logging.LogRecord) -> bool:
    """False for what gRPC logs, with a traceback, when a caller is gone before its answer is sent
    (ExecuteBatchError), or sends metadata that is no UTF-8, which the line then shows, were it a
    token. Callers could fill the log with these, and nobody can do anything about them."""
    error = record.exc_info[1] if record.exc_info else None
    return type(error).__name__ not in ("ExecuteBatchError", "UnicodeDecodeError")
