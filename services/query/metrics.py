"""Where searches spend their time; what every service measures is services.common.telemetry's."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from services.common.telemetry import LATENCY_BUCKETS_S


@dataclass
class SearchTiming:
    """Where the time of a call went, in microseconds.

    Calls to the encoder that ran side by side count once; the wait for one to go out counts as the
    encoder's queue.
    """

    encoder_calls: int = 0
    queue_us: int = 0
    encode_us: int = 0
    search_us: int = 0

    def add_encoding(self, queue_us: int, encode_us: int) -> None:
        self.encoder_calls += 1
        self.queue_us = max(self.queue_us, queue_us)
        self.encode_us = max(self.encode_us, encode_us)


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

    def observe(self, timing: SearchTiming) -> None:
        if timing.encoder_calls:
            self.stage_s.labels("queue").observe(timing.queue_us / 1e6)
            self.stage_s.labels("encode").observe(timing.encode_us / 1e6)
        self.stage_s.labels("search").observe(timing.search_us / 1e6)
