"""Services and clients over IPv6, alone and beside IPv4."""

from __future__ import annotations

import asyncio
import socket
from urllib.request import urlopen

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from glimpse import AsyncClient, Client
from glimpse.cli.probes import is_serving
from services.common.server import StartFailure
from tests.scripted import NOBODY
from tests.small_service import SmallSettings, small_service

T = 30.0


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no ::1")


def listening_on(host):
    names = ("listen", "metrics_listen", "health_listen")
    return small_service(**{name: f"{host}:0" for name in names}, insecure=True)


async def answers(host, service):
    """Calls, probes and /metrics are answered at `host`."""
    async with AsyncClient(NOBODY, f"{host}:{service.port}", timeout_s=T) as client:
        assert await client.collections() == []
    async with grpc.aio.insecure_channel(f"{host}:{service.health_port}") as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        answer = await check(health_pb2.HealthCheckRequest(), timeout=T)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    url = f"http://{host}:{service.metrics_port}/metrics"
    response = await asyncio.to_thread(urlopen, url, timeout=T)
    assert b"glimpse_rpc_calls_total" in response.read()


@needs_ipv6
async def test_a_service_listens_on_ipv6_alone():
    async with listening_on("[::1]") as service:
        await answers("[::1]", service)


@needs_ipv6
async def test_a_service_on_every_address_is_reached_over_ipv6_and_ipv4():
    async with listening_on("[::]") as service:
        await answers("[::1]", service)
        await answers("127.0.0.1", service)


async def test_a_service_on_every_address_needs_no_ipv6(monkeypatch):
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    async with listening_on("[::]") as service:
        await answers("127.0.0.1", service)


@needs_ipv6
async def test_blocking_client_and_probe_reach_a_service_over_ipv6():
    async with listening_on("[::1]") as service:
        address = f"[::1]:{service.port}"
        with Client(NOBODY, address, timeout_s=T) as client:
            assert await asyncio.to_thread(client.collections) == []
        assert await asyncio.to_thread(is_serving, address)


@needs_ipv6
@pytest.mark.parametrize("host", ["[::1]", "[::]"])
async def test_port_that_is_taken_on_ipv6_is_told(host):
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        taken = f"{host}:{other.getsockname()[1]}"
        with pytest.raises(StartFailure, match="in use"):
            async with small_service(listen=taken, insecure=True):
                pass


async def test_address_that_this_machine_has_not_is_told():
    with pytest.raises(
        StartFailure, match=r"LISTEN: cannot listen on 192\.0\.2\.1:0: Cannot assign"
    ):
        async with small_service(listen="192.0.2.1:0", insecure=True):
            pass


@pytest.mark.parametrize(
    "address", ["::1:50051", "::", "[::1]", "[::1]:x", "[nonsense:]:1", "[::1:1"]
)
def test_ipv6_address_without_brackets_or_port_is_refused(address):
    with pytest.raises(ValueError, match=r"SMALL_LISTEN|listen"):
        SmallSettings(listen=address)
