"""A peer that comes back under another address, as a pod does; the test is its name server."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys

import pytest

from glimpse import errors
from glimpse.cli.ports import free_ports
from services.common import encoder_client
from services.common.deadline import Deadline
from services.common.encoder_client import EncoderClient
from tests.fakes import FakeEncoder
from tests.swallowing import swallowing
from tests.waiting import until, until_answered

_A, _IN = 1, 1

ON_LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="127.0.0.2 is the machine's own, and a full queue swallows"
)


class NameServer(asyncio.DatagramProtocol):
    """Answers each question for an IPv4 address with `address`; see RFC 1035, 3.4 and 4.1."""

    def __init__(self) -> None:
        self.address = ""  # there is none
        self.questions = 0

    def connection_made(self, transport):
        self._transport = transport

    def target(self, port: int) -> str:
        """What a channel is to be opened to: a name that is asked for here."""
        host, own_port = self._transport.get_extra_info("sockname")
        return f"dns://{host}:{own_port}/encoder.test:{port}"

    def datagram_received(self, data, addr):
        (identity,) = struct.unpack_from(">H", data)
        name_ends = data.index(b"\0", 12) + 1
        question = data[12 : name_ends + 4]
        answer = b""
        is_for_ipv4 = struct.unpack_from(">H", data, name_ends) == (_A,)
        self.questions += is_for_ipv4
        if self.address and is_for_ipv4:
            its_name = struct.pack(">H", 0xC00C)  # where the question has it
            answer = its_name + struct.pack(">HHIH", _A, _IN, 5, 4) + socket.inet_aton(self.address)
        is_answer = 0x8180
        header = struct.pack(">6H", identity, is_answer, 1, int(bool(answer)), 0, 0)
        self._transport.sendto(header + question + answer, addr)


@pytest.fixture
async def names():
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", 0))
    yield server
    transport.close()


async def answered(peer):
    await until_answered(
        lambda: peer.model(Deadline(10)), lambda error: isinstance(error, errors.Unavailable)
    )


@ON_LINUX
async def test_encoder_that_comes_back_under_another_address_is_found_within_seconds(names):
    encoder, (port,) = FakeEncoder(), free_ports(1)
    peer = EncoderClient(names.target(port), 2**20)
    async with encoder.serve(port):
        names.address = "127.0.0.1"
        await peer.model(Deadline(10))
    async with encoder.serve(port, "127.0.0.2"):
        names.address = "127.0.0.2"
        await asyncio.wait_for(answered(peer), 10)
    await peer.close()


async def test_encoder_that_had_no_address_for_long_is_found_within_seconds(names):
    encoder, (port,) = FakeEncoder(), free_ports(1)
    peer = EncoderClient(names.target(port), 2**20)
    waiting = asyncio.create_task(answered(peer))
    await until(lambda: names.questions >= 6)  # by then, gRPC would wait for ten seconds
    waiting.cancel()
    async with encoder.serve(port):
        names.address = "127.0.0.1"
        await asyncio.wait_for(answered(peer), 6)
    await peer.close()


@ON_LINUX
async def test_address_that_swallows_connections_is_given_up_long_before_the_deadline():
    with swallowing() as port:
        peer = EncoderClient(f"127.0.0.1:{port}", 2**20)
        with pytest.raises(errors.Unavailable):
            await peer.model(Deadline(8))
        await peer.close()


@ON_LINUX
async def test_calls_fail_at_once_while_a_lost_encoder_is_looked_for(names, monkeypatch):
    monkeypatch.setattr(encoder_client, "_MAX_LOST_S", 0.1)
    monkeypatch.setattr(encoder_client, "_MAX_CONNECT_S", 30)  # who waits for that is late
    encoder, (port,) = FakeEncoder(), free_ports(1)
    peer = EncoderClient(names.target(port), 2**20)
    async with encoder.serve(port):
        names.address = "127.0.0.1"
        await peer.model(Deadline(10))
    with swallowing("127.0.0.2", port):
        names.address = "127.0.0.2"
        enough = names.questions + 3
        while names.questions < enough:
            with pytest.raises(errors.Unavailable):
                await peer.encode_texts(["dog"], Deadline(5))
        await peer.close()


async def test_texts_go_to_a_replica_that_serves_while_another_loads():
    loading, serving = FakeEncoder(), FakeEncoder()
    loading.failures = 1_000
    loading.failure = errors.Unavailable("the model is being loaded", reason="LOADING")
    async with loading.serve() as one, serving.serve() as other:
        peer = EncoderClient(f"ipv4:{one},{other}", 2**20)
        for number in range(20):
            await peer.encode_texts([f"{number}"], Deadline(30))
        await peer.close()
    assert loading.items["calls"] > 0
    assert serving.items["calls"] == 20
