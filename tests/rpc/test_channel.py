"""What a channel does for its callers when servers go."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import grpc

from glimpse.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from glimpse.transport.channel import open_channel
from tests.small_service import small_service
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
