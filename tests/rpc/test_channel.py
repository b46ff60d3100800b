"""A peer that comes back under another address, as a pod does; the test is its name server."""

from __future__ import annotations

import asyncio
import socket
import struct

import grpc

from glimpse.channel import open_aio_channel
from glimpse.encoder.v1 import encoder_pb2 as pb
from glimpse.encoder.v1 import encoder_pb2_grpc
from tests.fakes import FakeEncoder

_A, _IN = 1, 1


class NameServer(asyncio.DatagramProtocol):
    """Answers each question for an IPv4 address with `address`; see RFC 1035, 3.4 and 4.1."""

    def __init__(self, address: str) -> None:
        self.address = address

    def connection_made(self, transport):
        self._transport = transport

    def datagram_received(self, data, addr):
        (identity,) = struct.unpack_from(">H", data)
        name_ends = data.index(b"\0", 12) + 1
        question = data[12 : name_ends + 4]
        answer = b""
        if struct.unpack_from(">H", data, name_ends) == (_A,):
            its_name = struct.pack(">H", 0xC00C)  # where the question has it
            answer = its_name + struct.pack(">HHIH", _A, _IN, 5, 4) + socket.inet_aton(self.address)
        is_answer = 0x8180
        header = struct.pack(">6H", identity, is_answer, 1, int(bool(answer)), 0, 0)
        self._transport.sendto(header + question + answer, addr)


async def test_peer_that_comes_back_under_another_address_is_found_within_seconds():
    loop = asyncio.get_running_loop()
    transport, names = await loop.create_datagram_endpoint(
        lambda: NameServer("127.0.0.1"), local_addr=("127.0.0.1", 0)
    )
    name_server_port = transport.get_extra_info("sockname")[1]
    encoder = FakeEncoder()
    async with encoder.serve() as target:
        port = int(target.rpartition(":")[2])
        channel = open_aio_channel(f"dns://127.0.0.1:{name_server_port}/encoder.test:{port}")
        stub = encoder_pb2_grpc.EncoderStub(channel)
        await stub.GetModel(pb.GetModelRequest(), timeout=10)
    async with encoder.serve(port, "127.0.0.2"):
        names.address = "127.0.0.2"
        ends_at = loop.time() + 10
        while True:
            try:
                await stub.GetModel(pb.GetModelRequest(), timeout=10)
                break
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017
                assert loop.time() < ends_at, "the new address was not asked for"
                await asyncio.sleep(0.1)
    await channel.close()
    transport.close()
