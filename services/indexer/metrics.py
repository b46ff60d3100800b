"""The indexer's own metrics; those of its calls are services.common.telemetry's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from services.common.telemetry import LATENCY_BUCKETS_S
from services.indexer.images import Outcome

STAGES = ("look_up", "decode", "encode", "write")


class IndexerMetrics:
    """What became of images, where they are, and how long peers take; one per registry."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.images = Counter(
            "glimpse_indexer_images",
            "Images acknowledged, by outcome: indexed, unchanged, failed",
            ["outcome"],
            registry=registry,
        )
        for outcome in Outcome:  # a rate needs a zero to start from
            self.images.labels(outcome.value)
        self.stage_images = Gauge(
            "glimpse_indexer_stage_images",
            f"Images at each stage: {', '.join(STAGES)}",
            ["stage"],
            registry=registry,
        )
        self._stages = {name: self.stage_images.labels(name) for name in STAGES}
        self.held_bytes = Gauge(
            "glimpse_indexer_held_bytes",
            "Files, pixels and rows that all streams hold",
            registry=registry,
        )
        self.streams = Gauge(
            "glimpse_indexer_streams", "Streams and batches under way", registry=registry
        )
        self.encoder_latency_s = Histogram(
            "glimpse_indexer_encoder_latency_seconds",
            "Duration of calls to the encoder",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.store_latency_s = Histogram(
            "glimpse_indexer_store_latency_seconds",
            "Duration of calls to Milvus: fetch, upsert, settle",
            ["operation"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts an image at a stage for as long as the block runs."""
        gauge = self._stages[name]
        gauge.inc()
        try:
            yield
        finally:
            gauge.dec()
