"""The encoder's figures for Prometheus: its batches, its queue, its model; counting them is the
batcher's job."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import REGISTRY, CollectorRegistry, Histogram
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from glimpse.encoder.v1 import encoder_pb2 as pb
from services.common.telemetry import LATENCY_BUCKETS_S
from services.encoder.batcher import Batcher
from services.encoder.work_queue import Batch, Lane

_BUCKETS_ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class BatchMetrics:
    """How long items wait and batches take, and how large these are; one per registry."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        def by_lane(name: str, meaning: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(
                f"glimpse_encoder_{name}", meaning, ["lane"], buckets=buckets, registry=registry
            )

        self._wait_s = by_lane(
            "wait_seconds", "Time that an item waited for the device", LATENCY_BUCKETS_S
        )
        self._batch_s = by_lane(
            "batch_seconds", "Time that the device took for a batch", LATENCY_BUCKETS_S
        )
        self._batch_items = by_lane("batch_items", "Items in a batch", _BUCKETS_ITEMS)

    def observe(self, batch: Batch, encode_s: float) -> None:
        """Takes in a batch that was computed within `encode_s` seconds."""
        lane = batch.lane.value
        wait_s = self._wait_s.labels(lane)
        for item in batch.items:
            wait_s.observe(max(batch.taken_s - item.arrived_s, 0))
        self._batch_s.labels(lane).observe(encode_s)
        self._batch_items.labels(lane).observe(len(batch.items))


class EncoderCollector(Collector):
    """Reads the figures when Prometheus asks."""

    def __init__(self, batcher: Batcher, model: pb.Model) -> None:
        self._batcher = batcher
        self._model = model

    def collect(self) -> Iterator[Metric]:
        figures = self._batcher.figures
        labels = ("name", "fingerprint", "precision", "device", "preprocessing_version")
        yield InfoMetricFamily(
            "glimpse_encoder_model",
            "The model that is loaded",
            value={label: getattr(self._model, label) for label in labels},
        )
        texts = CounterMetricFamily(
            "glimpse_encoder_texts",
            "Texts by where their vector came from; hit ratio: cache over all",
            labels=["source"],
        )
        texts.add_metric(["cache"], figures.cache_hits)
        texts.add_metric(["other_caller"], figures.shared)
        texts.add_metric(["device"], figures.cache_misses - figures.shared)
        yield texts
        by_lane = (
            ("batches", "Batches that the device computed", figures.batches),
            ("items", "Items in these batches", figures.items),
            ("busy_seconds", "Time that the device was busy", figures.busy_s),
        )
        for name, meaning, values in by_lane:
            family = CounterMetricFamily(f"glimpse_encoder_{name}", meaning, labels=["lane"])
            for lane in Lane:
                family.add_metric([lane.value], values[lane])
            yield family
        gauges = (
            ("waiting", "Items waiting", self._batcher.waiting),
            ("max_batch_items", "Most items in a batch, as memory allows", self._batcher.max_batch),
        )
        for name, meaning, value_of in gauges:
            gauge = GaugeMetricFamily(f"glimpse_encoder_{name}", meaning, labels=["lane"])
            for lane in Lane:
                gauge.add_metric([lane.value], value_of(lane))
            yield gauge
        for name, meaning, value in (
            (
                "expired",
                "Items whose deadline passed before the device was free",
                figures.expired,
            ),
            ("failed", "Items that failed on the device", figures.failed),
        ):
            yield CounterMetricFamily(f"glimpse_encoder_{name}", meaning, value=value)
