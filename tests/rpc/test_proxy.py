"""A proxy in the environment: never between peers on one machine, for others unless no_proxy."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from glimpse.query.v1 import query_pb2
from glimpse.transport.channel import channel_options
from tests.scripted import Query, serve

SEARCHES = """
import asyncio
import sys
from glimpse import AsyncClient, Client, errors


async def search():
    async with AsyncClient(sys.argv[1], timeout_s=20) as client:
        return await client.search("c", "a dog")


try:
    with Client(sys.argv[1], timeout_s=20) as client:
        client.search("c", "a dog")
    asyncio.run(search())
    print("found")
except errors.Unavailable:
    print("unavailable")
"""


def outcome(target, **environment):
    """What both clients' searches come to in a process with these variables."""
    bare = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    program = [sys.executable, "-c", SEARCHES, target]
    ended = subprocess.run(
        program, env=bare | environment, capture_output=True, text=True, timeout=120, check=True
    )
    return ended.stdout.strip()


@contextmanager
def proxy():
    """A proxy that refuses everybody: its address, and the first line of each request to it."""
    lines = []

    def answer(listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                lines.append(connection.recv(4096).decode().splitlines()[0])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", lines
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "dns:///localhost"])
def test_a_service_on_this_machine_is_reached_without_the_proxy(host):
    with serve(query=Query(query_pb2.SearchResponse())) as target, proxy() as (address, lines):
        port = target.rpartition(":")[2]
        assert outcome(f"{host}:{port}", http_proxy=address) == "found"
    assert lines == []


def test_other_services_are_asked_for_through_the_proxy_unless_no_proxy_names_them():
    with proxy() as (address, lines):
        assert outcome("dns:///query.invalid:50053", http_proxy=address) == "unavailable"
        assert set(lines) == {"CONNECT query.invalid:50053 HTTP/1.1"}
        lines.clear()
        told = {"http_proxy": address, "no_proxy": ".invalid"}
        assert outcome("dns:///query.invalid:50053", **told) == "unavailable"
        assert lines == []


@pytest.mark.parametrize(
    ("target", "direct"),
    [
        ("127.0.0.1:1", True),
        ("[::1]:1", True),
        ("ipv4:127.0.0.1:1", True),
        ("ipv6:[::1]:1", True),
        ("dns:///localhost:1", True),
        ("dns://10.0.0.1/localhost:1", True),
        ("10.0.0.1:1", False),
        ("dns:///encoder:50051", False),
        ("dns:///localhost.example.org:1", False),
        ("[fd00::1]:1", False),
    ],
)
def test_only_targets_on_this_machine_are_kept_from_the_proxy(target, direct):
    assert (("grpc.enable_http_proxy", 0) in channel_options(target)) is direct
