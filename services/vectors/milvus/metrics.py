"""What Milvus is asked, how long it takes and how it ends, for metrics and traces."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

from prometheus_client import REGISTRY, CollectorRegistry, Histogram

from glimpse.errors import GlimpseError
from glimpse.transport import tracing
from services.common.telemetry import LATENCY_BUCKETS_S

_FINE = "OK"


class MilvusMetrics:
    """One histogram of requests; one per registry."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._latency_s = Histogram(
            "glimpse_milvus_latency_seconds",
            "Duration of requests to Milvus; reason: OK, or that of the error",
            ["operation", "reason"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )

    @contextlib.contextmanager
    def request(self, operation: str, database: str, collection: str) -> Iterator[None]:
        """Observes one request, which the block makes; its errors pass through."""
        started_s = time.perf_counter()
        reason = _FINE
        try:
            with _span(operation, database, collection):
                yield
        except GlimpseError as error:
            reason = error.reason
            raise
        except asyncio.CancelledError:
            reason = "CANCELLED"
            raise
        except Exception:
            reason = "INTERNAL"
            raise
        finally:
            elapsed_s = time.perf_counter() - started_s
            self._latency_s.labels(operation, reason).observe(elapsed_s)


@contextlib.contextmanager
def _span(operation: str, database: str, collection: str) -> Iterator[None]:
    # What a service asks of its own accord, every two seconds whether Milvus is there, is no trace.
    if not tracing.is_within_trace():
        yield
        return
    attributes = {"db.system.name": "milvus", "db.operation.name": operation}
    if database:
        attributes["db.namespace"] = database
    if collection:
        attributes["db.collection.name"] = collection
    with tracing.client_span(f"milvus/{operation}", attributes):
        yield
