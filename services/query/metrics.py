"""The query service's own metrics; those that every service has are services.common.telemetry's."""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from services.common.telemetry import LATENCY_BUCKETS_S


class QueryMetrics:
    """Where searches spend their time, and how often a text needed no encoder; one per registry."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.texts = Counter(
            "glimpse_query_texts",
            "Texts by where their vector came from; hit ratio: cache over all",
            ["source"],
            registry=registry,
        )
        for source in ("cache", "encoder"):  # a rate needs a zero to start from
            self.texts.labels(source)
        self.stage_s = Histogram(
            "glimpse_query_stage_seconds",
            "Time per call in a stage",
            ["stage"],  # queue, encode, search
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
