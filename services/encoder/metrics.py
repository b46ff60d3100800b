"""The batcher's figures for Prometheus; counting them is the batcher's job."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.encoder.batcher import Batcher
from services.encoder.work_queue import Lane


class EncoderCollector(Collector):
    """Reads the figures when Prometheus asks."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher

    def collect(self) -> Iterator[Metric]:
        figures = self._batcher.figures
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
            ("busy_seconds", "Time that the device worked", figures.busy_s),
        )
        for name, meaning, values in by_lane:
            family = CounterMetricFamily(f"glimpse_encoder_{name}", meaning, labels=["lane"])
            for lane in Lane:
                family.add_metric([lane.value], values[lane])
            yield family
        waiting = GaugeMetricFamily("glimpse_encoder_waiting", "Items waiting", labels=["lane"])
        for lane in Lane:
            waiting.add_metric([lane.value], self._batcher.waiting(lane))
        yield waiting
        for name, meaning, value in (
            (
                "expired",
                "Items whose deadline was over before the device was free",
                figures.expired,
            ),
            ("failed", "Items that failed on the device", figures.failed),
        ):
            yield CounterMetricFamily(f"glimpse_encoder_{name}", meaning, value=value)
