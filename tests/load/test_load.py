"""ghz itself against the whole stack, in short; how fast this machine is, no test says."""

from __future__ import annotations

import contextlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from benchmarks import stacks
from glimpse.cli.local.stack import Stack, StackOptions
from glimpse.cli.ports import Ports
from glimpse.client import Client
from glimpse.encoder.v1 import encoder_pb2_grpc
from tests import programs
from tests.load import bodies, ghz, run
from tests.load.suite import NAMES, Suite, SuiteOptions

ROWS = 30
SECONDS = 0.4

pytestmark = pytest.mark.skipif(
    programs.find(ghz.PROGRAM) is None, reason=programs.missing(ghz.PROGRAM)
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    options = StackOptions(data=tmp_path_factory.mktemp("stack"), ports=Ports.free())
    with Stack(options) as running:
        run.fill_running(running.addresses, ROWS)
        yield running


class SlowedEncoder(encoder_pb2_grpc.EncoderServicer):
    """The real encoder, each EncodeTexts held back."""

    def __init__(self, encoder: encoder_pb2_grpc.EncoderStub, delay_s: float) -> None:
        self._encoder = encoder
        self._delay_s = delay_s

    def GetModel(self, request, context):
        return self._encoder.GetModel(request)

    def EncodeTexts(self, request, context):
        time.sleep(self._delay_s)
        return self._encoder.EncodeTexts(request)


@pytest.fixture
def slowed_query(stack):
    """A query service that works, on the same store, but whose encoder takes two seconds."""
    ports = Ports.free()
    with contextlib.ExitStack() as running:
        channel = running.enter_context(grpc.insecure_channel(stack.addresses["encoder"]))
        server = grpc.server(ThreadPoolExecutor(32), options=[("grpc.so_reuseport", 0)])
        slowed = SlowedEncoder(encoder_pb2_grpc.EncoderStub(channel), delay_s=2.0)
        encoder_pb2_grpc.add_EncoderServicer_to_server(slowed, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        running.callback(lambda: server.stop(None).wait())
        address = f"127.0.0.1:{ports.query}"
        environment = {
            "QUERY_LISTEN": address,
            "QUERY_METRICS_LISTEN": f"127.0.0.1:{ports.query_metrics}",
            "QUERY_ENCODER": f"127.0.0.1:{port}",
            "QUERY_MILVUS_URI": stack.milvus_uri,
            "QUERY_LOG_LEVEL": "WARNING",
        }
        running.enter_context(stacks.running_process(["services.query"], address, environment))
        yield address


def arguments(stack: Stack, output: Path, query: str = "") -> list[str]:
    """For a stack that runs already."""
    found = ["--rows", str(ROWS), "--seconds", "1", "--output", str(output)]
    for service in run.SERVICES:
        found += [f"--{service}", stack.addresses[service]]
    return found + (["--query", query] if query else [])


def suite(stack: Stack, output: Path, by_proto: bool) -> Suite:
    world = bodies.World(ROWS, run.model_of(stack.addresses["encoder"]).image_size, stream_images=8)
    return Suite(stack.addresses, SuiteOptions(output, world, "lite", SECONDS, by_proto))


@pytest.mark.parametrize(
    ("by_proto", "names"),
    [(False, NAMES), (True, ("search-mix", "encode-texts", "index-images"))],
    ids=["by reflection", "by proto"],
)
def test_every_configuration_is_answered_without_an_error(stack, tmp_path, by_proto, names):
    loaded = suite(stack, tmp_path, by_proto)
    loaded.run(names)
    errors = {f.key: f.value for f in loaded.figures if f.key.endswith(".error_share")}
    assert errors == {f"{name}.error_share": 0 for name in names}
    for name in names:
        assert json.loads((tmp_path / f"{name}.json").read_text())["count"] > 0
    with Client(stack.query, stack.indexer, timeout_s=60) as client:
        ingested = client.get_collection(bodies.INGESTED, exact=True)
        assert ingested.rows >= loaded.options.world.stream_images


def test_bodies_fit_the_model_so_that_no_item_of_a_call_fails(stack):
    model = run.model_of(stack.addresses["encoder"])
    world = bodies.World(ROWS, model.image_size)
    with grpc.insecure_channel(stack.addresses["encoder"]) as channel:
        encoder = encoder_pb2_grpc.EncoderStub(channel)
        images = encoder.EncodeImages(next(bodies.encode_images(1, world)))
        texts = encoder.EncodeTexts(next(bodies.encode_texts(1, world)))
    found = [result.WhichOneof("result") for result in (*images.results, *texts.results)]
    assert found == ["embedding"] * (bodies.CALL_IMAGES + bodies.CALL_TEXTS)


def test_the_gate_fails_on_a_service_that_was_slowed_on_purpose(stack, slowed_query, tmp_path):
    given = arguments(stack, tmp_path, slowed_query)
    assert run.main([*given, "--only", "search-8"]) == run.GATE_FAILED
    written = json.loads((tmp_path / "load-running.json").read_text())
    met = {figure["key"]: figure["met"] for figure in written["figures"]}
    assert met["search-8.p99_ms"] is False
    assert met["search-8.per_s"] is False
    assert met["search-8.error_share"] is True
