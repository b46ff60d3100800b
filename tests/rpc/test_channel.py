"""What a channel does for its callers when servers go."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading

import grpc
import pytest

from glimpse.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from glimpse.transport.channel import open_channel
from tests.names import NameServer
from tests.small_service import small_service
from tests.swallowing import swallowing
from tests.waiting import until

CALLERS = 6


async def test_no_call_fails_of_those_that_reach_a_server_just_as_it_stops():
    failures, stopped = [], threading.Event()

    def call_again_and_again(target):
        with open_channel(target) as channel:
            stub = encoder_pb2_grpc.EncoderStub(channel)
            while not stopped.is_set():
                try:
                    stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(), timeout=60)
                except grpc.RpcError as error:
                    failures.append(error)

    async with small_service() as other, contextlib.AsyncExitStack() as stopping:
        one = await stopping.enter_async_context(small_service())
        target = f"ipv4:{one.target},{other.target}"
        calls = [asyncio.to_thread(call_again_and_again, target) for _ in range(CALLERS)]
        calling = asyncio.gather(*calls)
        await until(lambda: min(one.entered, other.entered) > 10 * CALLERS)
        await stopping.aclose()
        entered = other.entered
        await until(lambda: other.entered > entered + 10 * CALLERS)
        stopped.set()
        await calling
    assert failures == []


@pytest.mark.skipif(sys.platform != "linux", reason="a full queue swallows connections on Linux")
async def test_call_goes_on_elsewhere_where_the_only_known_address_swallows_connections():
    names = NameServer("127.0.0.2")

    def call(port):
        with open_channel(names.target(port)) as channel:
            stub = encoder_pb2_grpc.EncoderStub(channel)
            stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(), timeout=8)

    try:
        with swallowing("127.0.0.2") as port:
            async with small_service(listen=f"127.0.0.3:{port}") as other:
                calling = asyncio.create_task(asyncio.to_thread(call, port))
                await until(lambda: names.asked)
                names.addresses = ("127.0.0.3",)
                await calling
                assert other.entered == 1
    finally:
        names.close()
