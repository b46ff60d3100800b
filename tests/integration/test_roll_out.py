"""Pods replaced behind a name as a caller in a cluster sees it: DNS names the old ones for long."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from glimpse import Client
from glimpse.cli.ports import free_ports
from glimpse.cli.probes import is_serving
from glimpse.errors import NotFound
from tests.fakes import FakeEncoder
from tests.names import NameServer
from tests.waiting import until, wait_until

DRAIN_S = 3
CALLS = 10


@contextlib.contextmanager
def pod(address: str, encoder: str = "127.0.0.1:1") -> Iterator[subprocess.Popen[bytes]]:
    """The query service on a store of its own."""
    settings = {
        "QUERY_LISTEN": address,
        "QUERY_METRICS_LISTEN": "127.0.0.1:0",
        "QUERY_ENCODER": encoder,
        "QUERY_MILVUS_URI": "http://127.0.0.1:1",
        "QUERY_DRAIN_S": str(DRAIN_S),
    }
    command = [sys.executable, "-m", "tests.memory_service", "query"]
    process = subprocess.Popen(command, env=os.environ | settings, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def names():
    server = NameServer("127.0.0.2")
    yield server
    server.close()


def call(client: Client) -> None:
    """A search that a pod has answered: there is no such collection."""
    with pytest.raises(NotFound):
        client.search("images", vector=[1.0])


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        return process.wait(0.05) is not None
    except subprocess.TimeoutExpired:
        return False


def test_pod_that_stops_answers_until_dns_names_another_one(names):
    (port,) = free_ports(1)
    old_address, new_address = f"127.0.0.2:{port}", f"127.0.0.3:{port}"
    client = Client(names.target(port))
    with pod(old_address) as old, pod(new_address), client:
        for address in (old_address, new_address):
            wait_until(lambda at=address: is_serving(at), f"nobody serves at {address}")
        call(client)
        old.send_signal(signal.SIGTERM)
        wait_until(lambda: not is_serving(old_address), "a pod that stops says SERVING")
        for _ in range(CALLS):
            call(client)  # which knows no pod but the one that stops
        names.addresses = ("127.0.0.3",)
        while not has_ended(old):
            call(client)
        for _ in range(CALLS):
            call(client)
    assert old.returncode == 0


async def test_pod_has_found_the_encoder_before_it_is_ready():
    class Encoder(FakeEncoder):
        has_answered = False

        async def GetModel(self, request, context):
            self.has_answered = True
            return await super().GetModel(request, context)

    encoder, (port,) = Encoder(), free_ports(1)
    address = f"127.0.0.1:{port}"
    async with encoder.serve() as target:
        with pod(address, target):
            await until(lambda: is_serving(address) or encoder.has_answered)
            assert encoder.has_answered
