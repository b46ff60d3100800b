"""The shared server around a service: statuses, request ids, health, reflection, orderly stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from glimpse import errors
from glimpse.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from glimpse.transport.status import REQUEST_ID, from_rpc_error
from services.common.interceptors import deadline_of
from tests.observed import scrape
from tests.robustness import wire
from tests.waiting import until

SERVICE = "glimpse.encoder.v1.Encoder"
LAG = "glimpse_event_loop_lag_seconds"

# A service of its own process, so that signals, exit codes and metrics are the real ones.
PROGRAM = """
import asyncio
import os
import sys
import time
from pydantic_settings import SettingsConfigDict
from glimpse.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from glimpse import errors
from services.common import server
from services.common.interceptors import deadline_of
from services.common.settings import HostPort, ServiceSettings, load

told = os.fdopen(os.dup(1), "w", buffering=1)  # what is written to stdout becomes lines of the log


class TestSettings(ServiceSettings):
    "Test: a service that fails on request."
    model_config = SettingsConfigDict(env_prefix="TEST_", frozen=True)
    listen: HostPort = "127.0.0.1:0"
    metrics_listen: str = "127.0.0.1:0"


class Servicer(encoder_pb2_grpc.EncoderServicer):
    async def EncodeTexts(self, request, context):
        text = request.texts[0]
        if text == "overload":
            raise errors.Overloaded("the queue is full", retry_after_s=0.25)
        if text == "overload for long":
            raise errors.Overloaded("the queue is full", retry_after_s=600)
        if text == "hold up":
            time.sleep(1)
        if text == "field":
            raise errors.InvalidInput("texts[0]", "must not be this")
        if text == "endless":
            raise errors.InvalidInput("texts[0]", "ü" * 100_000)
        if text == "wait":
            print("entered", file=told)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        if text == "bug":
            raise ZeroDivisionError("a secret")
        left_s = deadline_of(context, 1234.0).left_s()
        result = encoder_pb2.TextResult(embedding=encoder_pb2.Embedding(values=[left_s]))
        return encoder_pb2.EncodeTextsResponse(results=[result])


async def main():
    app = server.Server(settings, ["glimpse.encoder.v1.Encoder"])
    encoder_pb2_grpc.add_EncoderServicer_to_server(Servicer(), app.grpc)
    print(await app.start(), app.metrics_port, file=told)
    await app.set_serving(True)
    return await app.run()


settings = load(TestSettings)
sys.exit(server.run_service(settings, main))
"""


class Service:
    """PROGRAM as a process, until the block ends."""

    def __init__(self, **settings):
        # What hangs is seen by the test's timeout.
        self._settings = {"TEST_GRACE_S": "600", **settings}

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, **self._settings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port, self.metrics_port = map(int, self._process.stdout.readline().split())
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.communicate()

    async def says(self, line):
        assert await asyncio.to_thread(self._process.stdout.readline) == line

    def hears(self, line):
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def terminate(self):
        self._process.send_signal(signal.SIGTERM)

    async def exit_code(self):
        return await asyncio.to_thread(self._process.wait)


@pytest.fixture(scope="module")
def service():
    """One that answers all the tests that do not stop it."""
    with Service() as service:
        yield service


@pytest.fixture
async def channel(service):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        yield channel


@pytest.fixture
def stopping():
    """One for a test that stops it."""
    with Service() as service:
        yield service


@pytest.fixture
async def last_channel(stopping):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{stopping.port}") as channel:
        yield channel


async def failure(channel, text):
    stub = encoder_pb2_grpc.EncoderStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=[text]), timeout=60)
    return caught.value


async def test_domain_error_arrives_with_reason_and_retry_delay(channel):
    raw = await failure(channel, "overload")
    assert raw.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    error = from_rpc_error(raw, "encoder")
    assert isinstance(error, errors.Overloaded)
    assert (str(error), error.reason, error.retry_after_s) == (
        "the queue is full",
        "OVERLOADED",
        0.25,
    )


async def test_refusal_tells_grpc_when_to_try_again_and_when_it_is_too_late_for_that(channel):
    pushback = "grpc-retry-pushback-ms"
    raw = await failure(channel, "overload")
    assert 250 <= int(dict(raw.trailing_metadata())[pushback]) <= 375
    raw = await failure(channel, "overload for long")
    assert dict(raw.trailing_metadata())[pushback] == "-1"
    assert pushback not in dict((await failure(channel, "field")).trailing_metadata())


async def test_event_loop_that_is_held_up_is_measured(channel, service):
    before_s = await lag_s(service.metrics_port)
    request = encoder_pb2.EncodeTextsRequest(texts=["hold up"])
    await encoder_pb2_grpc.EncoderStub(channel).EncodeTexts(request, timeout=60)
    # What is due ten times in that second comes 0.9 s, 0.8 s … too late.
    while await lag_s(service.metrics_port) < before_s + 4.4:
        pass


async def lag_s(port: int) -> float:
    """The sum of all lags that were measured."""
    lines = (await asyncio.to_thread(scrape, port)).splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{LAG}_sum")))


async def test_invalid_input_names_its_field(channel):
    error = from_rpc_error(await failure(channel, "field"), "encoder")
    assert isinstance(error, errors.InvalidInput)
    assert error.field == "texts[0]"


async def test_message_however_long_fits_into_what_callers_take(channel):
    raw = await failure(channel, "endless")
    assert raw.code() is grpc.StatusCode.INVALID_ARGUMENT
    error = from_rpc_error(raw, "encoder")
    assert (error.field, error.reason) == ("texts[0]", "INVALID_INPUT")
    assert str(error).endswith("üü…")


async def test_bug_becomes_internal_and_tells_callers_nothing(channel):
    raw = await failure(channel, "bug")
    assert raw.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(raw.details())


async def test_deadline_reaches_the_service_and_a_default_stands_in_for_none(channel):
    stub = encoder_pb2_grpc.EncoderStub(channel)
    request = encoder_pb2.EncodeTextsRequest(texts=["hello"])
    response = await stub.EncodeTexts(request, timeout=60)
    # gRPC rounds what it sends of a deadline up, by up to a hundredth.
    assert 30 < response.results[0].embedding.values[0] < 61
    response = await stub.EncodeTexts(request)
    assert 1200.0 < response.results[0].embedding.values[0] <= 1234.0


async def test_request_id_is_returned_and_made_when_absent(channel):
    stub = encoder_pb2_grpc.EncoderStub(channel)
    request = encoder_pb2.EncodeTextsRequest(texts=["hello"])
    call = stub.EncodeTexts(request, metadata=((REQUEST_ID, "abc-1"),))
    assert dict(await call.trailing_metadata())[REQUEST_ID] == "abc-1"
    call = stub.EncodeTexts(request)
    assert len(dict(await call.trailing_metadata())[REQUEST_ID]) == 32


async def test_request_id_is_returned_with_failures_too(channel):
    stub = encoder_pb2_grpc.EncoderStub(channel)
    request = encoder_pb2.EncodeTextsRequest(texts=["overload"])
    call = stub.EncodeTexts(request, metadata=((REQUEST_ID, "abc-2"),))
    assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(await call.trailing_metadata())[REQUEST_ID] == "abc-2"


async def test_health_and_reflection_answer(channel):
    check = health_pb2_grpc.HealthStub(channel).Check
    for name in ("", SERVICE, "liveness"):
        status = (await check(health_pb2.HealthCheckRequest(service=name))).status
        assert status == health_pb2.HealthCheckResponse.SERVING
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async for answer in stub.ServerReflectionInfo(iter([request])):
        names = [service.name for service in answer.list_services_response.service]
        assert SERVICE in names


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
@pytest.mark.parametrize("symbol", [SERVICE, f"{SERVICE}.EncodeTexts"])
async def test_reflection_finds_a_service_by_its_name_and_by_that_of_a_method(
    channel, symbol, version
):
    (answer,) = await reflected(channel, symbol, version)
    file = descriptor_pb2.FileDescriptorProto()
    file.ParseFromString(answer.file_descriptor_response.file_descriptor_proto[0])
    assert file.service[0].name == "Encoder"


@pytest.mark.parametrize("symbol", ["no.such.Service", f"{SERVICE}.NoSuchMethod", "nonsense", ""])
async def test_reflection_says_when_there_is_no_such_symbol(channel, symbol):
    (answer,) = await reflected(channel, symbol)
    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


async def reflected(
    channel, symbol: str, version: str = "v1alpha"
) -> list[reflection_pb2.ServerReflectionResponse]:
    ask = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)
    return [answer async for answer in ask(iter([request]))]


async def test_sigterm_stops_the_service_with_exit_code_0(stopping, last_channel):
    await failure(last_channel, "bug")
    stopping.terminate()
    assert await stopping.exit_code() == 0


async def test_call_under_way_at_sigterm_is_answered_and_later_ones_are_refused(
    stopping, last_channel
):
    stub = encoder_pb2_grpc.EncoderStub(last_channel)
    under_way = stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=["wait"]), timeout=60)
    await stopping.says("entered\n")
    watch = aiter(health_pb2_grpc.HealthStub(last_channel).Watch(health_pb2.HealthCheckRequest()))
    await anext(watch)
    stopping.terminate()
    assert (await anext(watch)).status == health_pb2.HealthCheckResponse.NOT_SERVING
    async for _ in watch:  # it ends once new calls are about to be refused
        pass
    later = encoder_pb2.EncodeTextsRequest(texts=["later"])
    with contextlib.suppress(grpc.aio.AioRpcError):
        while True:
            await (call := stub.EncodeTexts(later, timeout=60))
    assert await call.code() is grpc.StatusCode.UNAVAILABLE
    stopping.hears("go on\n")
    assert (await under_way).results
    assert await stopping.exit_code() == 0


async def test_calls_that_wait_at_a_stop_are_refused_and_say_when_to_try_again():
    with Service(TEST_MAX_IN_FLIGHT="1") as service:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{service.port}") as channel:
            encode = encoder_pb2_grpc.EncoderStub(channel).EncodeTexts
            request = encoder_pb2.EncodeTextsRequest(texts=["wait"])
            under_way = encode(request, timeout=60)
            await service.says("entered\n")
            waiting = [encode(request, timeout=60) for _ in range(5)]
            await until_waiting(service.metrics_port, 5)
            service.terminate()
            for call in waiting:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call
                error = from_rpc_error(caught.value, "encoder")
                assert (type(error), error.reason) == (errors.Unavailable, "STOPPING")
                assert error.retry_after_s
            service.hears("go on\n")
            assert (await under_way).results
            assert await service.exit_code() == 0


async def until_waiting(port: int, count: int) -> None:
    while f"glimpse_rpc_waiting {count}.0" not in await asyncio.to_thread(scrape, port):
        pass


async def test_a_stop_under_load_cancels_no_call(stopping):
    statuses = Counter()
    stopped = asyncio.Event()

    async def ask(channel):
        stub = encoder_pb2_grpc.EncoderStub(channel)
        while not stopped.is_set():
            call = stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=["dog"]), timeout=60)
            statuses[await call.code()] += 1

    async with contextlib.AsyncExitStack() as stack:
        # Connections of their own, so that calls pile up at the server.
        options = [("grpc.use_local_subchannel_pool", 1)]
        target = f"127.0.0.1:{stopping.port}"
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(target, options=options))
            for _ in range(8)
        ]
        callers = [asyncio.create_task(ask(channel)) for channel in channels for _ in range(5)]
        await until(lambda: statuses[grpc.StatusCode.OK] > 500)
        stopping.terminate()
        assert await stopping.exit_code() == 0
        await until(lambda: statuses[grpc.StatusCode.UNAVAILABLE] > 500)
        stopped.set()
        await asyncio.gather(*callers)
    assert statuses.keys() == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}


async def test_open_health_watch_does_not_hold_up_a_stop(stopping, last_channel):
    watch = aiter(health_pb2_grpc.HealthStub(last_channel).Watch(health_pb2.HealthCheckRequest()))
    statuses = [(await anext(watch)).status]
    stopping.terminate()
    assert await stopping.exit_code() == 0
    async for answer in watch:
        statuses.append(answer.status)
    serving, not_serving = (
        health_pb2.HealthCheckResponse.SERVING,
        health_pb2.HealthCheckResponse.NOT_SERVING,
    )
    assert statuses == [serving, not_serving]


def test_time_left_without_deadline_is_the_default():
    class Context:
        def time_remaining(self):
            return None

    assert 2.0 < deadline_of(Context(), 3.0).left_s() <= 3.0


async def test_a_call_that_ends_grpcs_server_ends_the_service():
    """gRPC for Python gives up serving at a method's name that is no UTF-8; a process that lived on
    would answer nobody."""
    with Service(TEST_GRACE_S="0") as service:
        connection = wire.Wire(wire.tcp(f"127.0.0.1:{service.port}"))
        connection.begin(b"/glimpse.encoder.v1.Encoder/\xff")
        connection.close()  # gRPC waits for it: 20 s, where it is silent
        assert await service.exit_code() == 1
