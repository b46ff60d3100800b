"""The whole stack as its operators see it: what it exported, logged and traced while it worked;
what is right about that is for tests to say."""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from glimpse import Client, ImageFile
from glimpse.cli.local.stack import Stack, StackOptions
from glimpse.cli.ports import Ports
from glimpse.errors import NotFound
from tests import photographs
from tests.authority import Authority, write
from tests.small_service import small_service

SERVICES = ("encoder", "indexer", "query")


class OtlpCollector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans on a loopback port, as a collector would."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        """The service's name and the span, in OTLP's own message."""
        self._server = grpc.server(ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> OtlpCollector:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None)

    def Export(self, request, context):
        for of_resource in request.resource_spans:
            named = {each.key: each.value.string_value for each in of_resource.resource.attributes}
            for scope in of_resource.scope_spans:
                self.spans += [(named["service.name"], span) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


@dataclass
class Observed:
    """`families` are the names and types of glimpse's metrics by service, `samples` all that was
    exported; `spans` what the collector got, each with its service; `logs` the services' lines."""

    families: dict[str, dict[str, str]] = field(default_factory=dict)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    spans: list[tuple[str, Any]] = field(default_factory=list)
    spans_before_the_stop: int = 0
    logs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def read_metrics(self, service: str, text: str) -> None:
        """Takes in what /metrics of a service said."""
        found = list(text_string_to_metric_families(text))
        self.families[service] = {
            family.name: family.type
            for family in found
            if family.name.startswith("glimpse_") and not family.name.endswith("_created")
        }
        self.samples[service] = [sample for family in found for sample in family.samples]

    def total(self, service: str, name: str) -> float:
        """The sum of a service's samples of that name."""
        return sum(sample.value for sample in self.samples[service] if sample.name == name)

    def labels(self, name: str) -> dict[str, set[str]]:
        """The labels of the samples of that name, with the values that they had anywhere."""
        found: dict[str, set[str]] = defaultdict(set)
        for samples in self.samples.values():
            for sample in samples:
                if sample.name == name:
                    for label, value in sample.labels.items():
                        found[label].add(value)
        return found

    @property
    def names(self) -> set[str]:
        """The names of all samples, as queries use them."""
        return {sample.name for samples in self.samples.values() for sample in samples}


@contextlib.contextmanager
def observed_stack(folder: Path) -> Iterator[Observed]:
    """Starts everything, has it index, search and fail, scrapes, stops; then yields."""
    observed = Observed()
    with OtlpCollector() as collector:
        ports = Ports.free()
        environment = {
            "OTEL_BSP_SCHEDULE_DELAY": "600000",  # nothing is sent before the stop
            "http_proxy": "http://127.0.0.1:1",  # nobody; nothing here may be asked for through it
        }
        for service in SERVICES:
            prefix = service.upper()
            environment |= {
                f"{prefix}_OTLP_ENDPOINT": collector.endpoint,
                f"{prefix}_LOG_FORMAT": "json",
            }
        stack = Stack(StackOptions(data=folder, ports=ports, environment=environment))
        with stack:
            with Client(stack.query, stack.indexer, timeout_s=60) as client:
                _work(client)
            for service in SERVICES:
                port = getattr(ports, f"{service}_metrics")
                observed.read_metrics(service, scrape(port))
            observed.spans_before_the_stop = len(collector.spans)
        observed.spans = list(collector.spans)
    for service in SERVICES:
        lines = (folder / "logs" / f"{service}.log").read_text().splitlines()
        observed.logs[service] = [json.loads(line) for line in lines]
    observed.read_metrics("any with TLS", asyncio.run(_metrics_with_tls(folder)))
    yield observed


def _work(client: Client) -> None:
    """Something of everything that there are figures of."""
    paths = photographs.carried()[:3]
    images = [*(ImageFile(path=path) for path in paths), ImageFile(content=b"none", uri="none")]
    list(client.index("pictures", images))
    list(client.index("pictures", images[:1]))
    for _ in range(2):
        client.search("pictures", "a cup")
    client.search("pictures", image=paths[0])
    with pytest.raises(NotFound):
        client.search("nothing", "a cup")


def scrape(port: int) -> str:
    """What /metrics on a loopback port says."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        return response.read().decode()


async def _metrics_with_tls(folder: Path) -> str:
    files = write(folder, "server", Authority().pair("localhost"))
    async with small_service(tls_cert_file=files.cert, tls_key_file=files.key) as service:
        return generate_latest(service.registry).decode()
