"""The log of a service for machines: nothing but JSON objects, whatever callers send."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime

import grpc
import pytest

from glimpse.cli.ports import free_ports
from glimpse.query.v1 import query_pb2, query_pb2_grpc
from tests.authority import Authority, write
from tests.processes import started
from tests.robustness.wire import PREFACE, Wire, framed, tcp


def send(address: str, content: bytes) -> None:
    """Sends bytes, and waits until the service has closed the connection, or some time."""
    with tcp(address) as connection:
        connection.sendall(content)
        connection.settimeout(1)
        try:
            while connection.recv(4096):
                pass
        except (TimeoutError, ConnectionError):
            pass


def send_odd_header(address: str) -> None:
    wire = Wire(tcp(address))
    stream = wire.begin("/grpc.health.v1.Health/Check", ("te", "no"))
    wire.send(stream, framed(b""), end=True)
    wire.status(stream, timeout_s=1)
    wire.vanish()


async def test_every_line_is_an_object_while_callers_send_what_is_no_call(tmp_path):
    files = write(tmp_path, "server", Authority().pair("localhost"))
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    process = await started(
        "query",
        ("-m", "tests.memory_service", "query"),
        LOG_FORMAT="json",
        LISTEN=addresses[0],
        HEALTH_LISTEN=addresses[1],
        TLS_CERT_FILE=files.cert,
        TLS_KEY_FILE=files.key,
    )
    lines = []

    async def read_until(message: str) -> None:
        while message not in (lines[-1]["message"] if lines else ""):
            lines.append(json.loads(await process.stderr.readline()))

    try:
        await asyncio.wait_for(read_until(" answers"), 60)
        for content in (b"GET / HTTP/1.1\r\n\r\n", PREFACE, bytes(range(256)) * 4):
            for address in addresses:
                await asyncio.to_thread(send, address, content)
        async with grpc.aio.insecure_channel(addresses[0]) as channel:  # no TLS
            stub = query_pb2_grpc.QueryStub(channel)
            with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
                await stub.Search(query_pb2.SearchRequest(), timeout=5)
        await asyncio.wait_for(read_until("Handshake failed"), 60)
        for _ in range(100):  # a caller without TLS that tries on
            await asyncio.to_thread(send, addresses[0], PREFACE)
        await asyncio.to_thread(send_odd_header, addresses[1])
        await asyncio.wait_for(read_until("Error parsing 'te'"), 60)
        raw = lines[-1]
        assert (raw["logger"], raw["level"], raw["service"]) == ("stderr", "WARNING", "query")
    finally:
        process.terminate()
        _, rest = await process.communicate()
    assert process.returncode == 0
    assert "stopped" in rest.decode()
    lines += map(json.loads, rest.splitlines())
    assert len([line for line in lines if "Handshake failed" in line["message"]]) < 20
    assert {datetime.fromisoformat(line["time"]).tzinfo is None for line in lines} == {False}
