"""Logs, the request's id, and the metrics all services have; a service's own live with it, traces
are services.common.tracing's."""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from pythonjsonlogger.json import JsonFormatter

from services.common import tracing

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
            "glimpse_rpc_in_flight", "Calls in progress", ["method"], registry=registry
        )


def set_up_logs(level: str, log_format: str, service: str) -> None:
    """Sends every log line of the process to standard error, as JSON or as text."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_add_ids)
    if log_format == "json":
        fields = "%(asctime)s %(levelname)s %(name)s %(message)s %(request_id)s %(trace_id)s"
        renamed = {"asctime": "time", "levelname": "level", "name": "logger"}
        handler.setFormatter(
            JsonFormatter(fields, rename_fields=renamed, static_fields={"service": service})
        )
    else:
        handler.setFormatter(logging.Formatter(f"%(asctime)s {service} %(levelname)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_not_callers_doing)


def _add_ids(record: logging.LogRecord) -> bool:
    record.request_id = request_id.get()
    record.trace_id = tracing.trace_id()
    return True


def _is_not_callers_doing(record: logging.LogRecord) -> bool:
    """False for what gRPC logs, with a traceback, when a caller is gone before its answer is sent
    (ExecuteBatchError), or sends metadata that is no UTF-8, which the line then shows, were it a
    token. Callers could fill the log with these, and nobody can do anything about them."""
    error = record.exc_info[1] if record.exc_info else None
    return type(error).__name__ not in ("ExecuteBatchError", "UnicodeDecodeError")
