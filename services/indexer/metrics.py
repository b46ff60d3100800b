"""The indexer's own metrics; those of its calls are services.common.telemetry's."""

from __future__ import annotations

import functools
from collections.abc import Callable

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from glimpse.results import Outcome
from services.common.telemetry import LATENCY_BUCKETS_S

STAGES = ("look_up", "decode", "encode", "write")


class IndexerMetrics:
    """What became of images, where they are, and how long peers take; one per registry."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        images = Counter(
            "glimpse_indexer_images",
            "Images acknowledged, by outcome: indexed, unchanged, failed",
            ["outcome"],
            registry=registry,
        )
        # Made at once, because a rate needs a zero to start from.
        self.acknowledged = {outcome: images.labels(outcome.value) for outcome in Outcome}
        self._stage_images = Gauge(
            "glimpse_indexer_stage_images",
            f"Images at each stage: {', '.join(STAGES)}",
            ["stage"],
            registry=registry,
        )
        self._held_bytes = Gauge(
            "glimpse_indexer_held_bytes",
            "Files, pixels and rows that all streams hold",
            registry=registry,
        )
        self.streams = Gauge(
            "glimpse_indexer_streams", "Streams and batches in progress", registry=registry
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

    def watch(self, at_stage: Callable[[str], int], held_bytes: Callable[[], int]) -> None:
        """Has the gauges ask, when they are read: counting each image on its way costs more."""
        for name in STAGES:
            self._stage_images.labels(name).set_function(functools.partial(at_stage, name))
        self._held_bytes.set_function(held_bytes)
