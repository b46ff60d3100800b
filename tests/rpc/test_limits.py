"""How much is taken at once, of all callers and of each; and the port that answers probes only."""

from __future__ import annotations

import asyncio
import gc
import json

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from glimpse import errors
from glimpse.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from glimpse.indexer.v1 import indexer_pb2, indexer_pb2_grpc
from glimpse.tokens import line, new_token
from glimpse.transport.host_port import is_loopback
from glimpse.transport.status import from_rpc_error
from services.common.admission import Admission
from tests.authority import Authority, write
from tests.rpc.test_indexer import opened
from tests.small_service import SmallSettings, small_service
from tests.waiting import until

T = 30.0
TEXTS = encoder_pb2.EncodeTextsRequest(texts=["hello"])


def bearer(token):
    return (("authorization", f"Bearer {token}"),)


async def failure(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value, "service")


def in_flight(service):
    """What the metric says, which autoscalers go by."""
    method = {"method": "/glimpse.encoder.v1.Encoder/EncodeTexts"}
    return service.registry.get_sample_value("glimpse_rpc_in_flight", method)


async def healthy(target):
    async with grpc.aio.insecure_channel(target) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        answer = await check(health_pb2.HealthCheckRequest(), timeout=T)
        return answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_call_past_the_bound_is_refused_with_a_delay_and_health_is_not():
    async with (
        small_service(max_in_flight=2, max_waiting_bytes=0) as service,
        grpc.aio.insecure_channel(service.target) as channel,
    ):
        service.open.clear()
        encode = encoder_pb2_grpc.EncoderStub(channel).EncodeTexts
        running = [encode(TEXTS, timeout=60) for _ in range(2)]
        await until(lambda: service.entered == 2)
        error = await failure(encode(TEXTS, timeout=T))
        assert (type(error), error.reason) == (errors.Overloaded, "OVERLOADED")
        assert error.retry_after_s
        assert await healthy(service.target)
        assert in_flight(service) == 2
        running.pop().cancel()
        service.open.set()
        await running.pop()
        await encode(TEXTS, timeout=T)
        await until(lambda: in_flight(service) == 0)


async def test_refused_call_is_tried_again_by_a_channel_that_is_told_to():
    policy = {
        "maxAttempts": 3,
        "initialBackoff": "0.01s",
        "maxBackoff": "0.01s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["RESOURCE_EXHAUSTED"],
    }
    config = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})
    options = [("grpc.service_config", config)]
    async with (
        small_service(max_in_flight=1, max_waiting_bytes=0) as service,
        grpc.aio.insecure_channel(service.target, options) as channel,
    ):
        service.open.clear()
        encode = encoder_pb2_grpc.EncoderStub(channel).EncodeTexts
        running = encode(TEXTS, timeout=60)
        await until(lambda: service.entered == 1)
        assert type(await failure(encode(TEXTS, timeout=T))) is errors.Overloaded
        refused = {
            "method": "/glimpse.encoder.v1.Encoder/EncodeTexts",
            "code": "RESOURCE_EXHAUSTED",
        }
        calls = service.registry.get_sample_value
        await until(lambda: calls("glimpse_rpc_calls_total", refused) == 3)
        running.cancel()


async def test_failed_calls_leave_nothing_to_the_garbage_collector():
    def alive():
        return [each for each in gc.get_objects() if isinstance(each, errors.GlimpseError)]

    earlier = alive()  # what other tests hold, and this now, too
    async with (
        small_service(max_in_flight=2, max_waiting_bytes=0) as service,
        grpc.aio.insecure_channel(service.target) as channel,
    ):
        service.open.clear()
        encode = channel.unary_unary("/glimpse.encoder.v1.Encoder/EncodeTexts")
        gc.collect()
        gc.disable()
        try:
            with pytest.raises(grpc.aio.AioRpcError, match="INVALID_ARGUMENT"):
                await encode(b"no message", timeout=T)
            running = [encode(b"", timeout=60) for _ in range(2)]
            await until(lambda: service.entered == 2)
            with pytest.raises(grpc.aio.AioRpcError, match="RESOURCE_EXHAUSTED"):
                await encode(b"", timeout=T)
            await until(lambda: len(alive()) == len(earlier))
        finally:
            gc.enable()
        for call in running:
            call.cancel()


async def test_stream_that_is_not_read_to_its_end_leaves_no_message_to_the_garbage_collector():
    size = 2**20

    def holders():
        return [
            type(each).__name__
            for each in gc.get_objects()
            for held in gc.get_referents(each)
            if isinstance(held, bytes) and len(held) > size
        ]

    async def requests():
        yield bytes(2 * size)

    async with opened() as indexer:
        index = indexer.channel.stream_stream("/glimpse.indexer.v1.Indexer/IndexImages")
        gc.collect()
        earlier = holders()  # what other tests hold
        gc.disable()
        try:
            with pytest.raises(grpc.aio.AioRpcError, match="INVALID_ARGUMENT"):
                await index(requests(), timeout=T).read()
            await until(lambda: holders() == earlier)
        finally:
            gc.enable()


async def test_call_past_the_bound_is_refused_before_its_message_has_arrived():
    async with (
        small_service(max_in_flight=1, max_waiting_bytes=0) as service,
        grpc.aio.insecure_channel(service.target) as channel,
    ):
        service.open.clear()
        running = encoder_pb2_grpc.EncoderStub(channel).EncodeTexts(TEXTS, timeout=60)
        await until(lambda: service.entered == 1)
        # On the wire a unary call is a stream of one message; this one never sends it.
        mute = channel.stream_stream("/glimpse.encoder.v1.Encoder/EncodeTexts")(timeout=T)
        error = await failure(mute.read())
        assert (type(error), error.reason) == (errors.Overloaded, "OVERLOADED")
        service.open.set()
        await running


async def test_one_caller_does_not_take_the_places_of_another(tmp_path):
    greedy, modest = new_token(), new_token()
    path = tmp_path / "tokens"
    path.write_text(f"{line(greedy, ['encode'], 'greedy')}\n{line(modest, ['encode'], 'modest')}")
    async with (
        small_service(max_in_flight_per_caller=1, tokens_file=path) as service,
        grpc.aio.insecure_channel(service.target) as channel,
    ):
        service.open.clear()
        encode = encoder_pb2_grpc.EncoderStub(channel).EncodeTexts
        first = encode(TEXTS, timeout=60, metadata=bearer(greedy))
        await until(lambda: service.entered == 1)
        error = await failure(encode(TEXTS, timeout=T, metadata=bearer(greedy)))
        assert (type(error), error.reason) == (errors.Overloaded, "CALLER_LIMIT")
        other = encode(TEXTS, timeout=60, metadata=bearer(modest))
        await until(lambda: service.entered == 2)
        service.open.set()
        await asyncio.gather(first, other)


async def test_callers_are_told_apart_by_their_certificates(tmp_path):
    authority = Authority()
    files = write(tmp_path, "server", authority.pair("localhost"))
    ca = authority.write(tmp_path)
    async with small_service(
        max_in_flight_per_caller=1,
        tls_cert_file=files.cert,
        tls_key_file=files.key,
        tls_client_ca_file=ca,
    ) as service:
        pairs = [authority.pair(name) for name in ("query", "indexer")]
        channels = [
            grpc.aio.secure_channel(
                service.target, grpc.ssl_channel_credentials(authority.pem, pair.key, pair.cert)
            )
            for pair in pairs
        ]
        service.open.clear()
        query, indexer = (encoder_pb2_grpc.EncoderStub(channel) for channel in channels)
        first = query.EncodeTexts(TEXTS, timeout=60)
        await until(lambda: service.entered == 1)
        assert (await failure(query.EncodeTexts(TEXTS, timeout=T))).reason == "CALLER_LIMIT"
        other = indexer.EncodeTexts(TEXTS, timeout=60)
        await until(lambda: service.entered == 2)
        service.open.set()
        await asyncio.gather(first, other)
        for channel in channels:
            await channel.close()


async def test_streams_of_one_caller_are_bounded_and_a_cut_one_frees_its_place():
    async with (
        small_service(max_streams_per_caller=1) as service,
        grpc.aio.insecure_channel(service.target) as channel,
    ):
        index = indexer_pb2_grpc.IndexerStub(channel).IndexImages
        first = index()
        await first.write(indexer_pb2.IndexImagesRequest())
        await first.read()
        error = await failure(index(timeout=T).read())
        assert (type(error), error.reason) == (errors.Overloaded, "CALLER_LIMIT")
        first.cancel()
        refused = 0
        while True:
            next_one = index(timeout=T)
            await next_one.write(indexer_pb2.IndexImagesRequest())
            try:
                await next_one.read()
                break
            except grpc.aio.AioRpcError:
                refused += 1
                assert refused < 1000


async def test_calls_past_the_bound_of_a_connection_wait_at_the_caller():
    options = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own
    async with (
        small_service(max_calls_per_connection=1) as service,
        grpc.aio.insecure_channel(service.target, options) as channel,
        grpc.aio.insecure_channel(service.target, options) as another,
        grpc.aio.insecure_channel(service.target, options) as third,
    ):
        encode = encoder_pb2_grpc.EncoderStub(channel).EncodeTexts
        await encode(TEXTS, timeout=T)  # by now the connection's settings are known
        service.open.clear()
        calls = [encode(TEXTS, timeout=T) for _ in range(3)]
        calls.append(encoder_pb2_grpc.EncoderStub(another).EncodeTexts(TEXTS, timeout=T))
        await until(lambda: service.entered == 3)
        await encoder_pb2_grpc.EncoderStub(third).GetModel(encoder_pb2.GetModelRequest())
        assert service.entered == 3
        service.open.set()
        await asyncio.gather(*calls)
        assert service.entered == 5


async def test_callers_that_have_gone_leave_nothing_behind():
    admission = Admission(max_in_flight_per_caller=1)
    for number in range(100):
        async with admission.place(f"caller {number}", left_s=None):
            pass
    assert not admission.callers


def waiting(service):
    return service.registry.get_sample_value("glimpse_rpc_waiting")


async def test_calls_past_the_places_wait_and_are_answered():
    async with (
        small_service(max_in_flight=1) as service,
        grpc.aio.insecure_channel(service.target) as channel,
    ):
        service.open.clear()
        encode = encoder_pb2_grpc.EncoderStub(channel).EncodeTexts
        calls = [encode(TEXTS, timeout=T) for _ in range(20)]
        await until(lambda: waiting(service) == 19)
        calls.pop().cancel()
        await until(lambda: waiting(service) == 18)
        assert (service.entered, in_flight(service)) == (1, 19)
        service.open.set()
        await asyncio.gather(*calls)
        assert (service.entered, waiting(service)) == (19, 0)


async def test_a_call_that_waits_ends_with_its_deadline_and_disturbs_nobody():
    async with (
        small_service(max_in_flight=1) as service,
        grpc.aio.insecure_channel(service.target) as channel,
    ):
        service.open.clear()
        encode = encoder_pb2_grpc.EncoderStub(channel).EncodeTexts
        first = encode(TEXTS, timeout=T)
        await until(lambda: service.entered == 1)
        hasty, patient = encode(TEXTS, timeout=2.0), encode(TEXTS, timeout=T)
        await until(lambda: waiting(service) == 2)
        assert type(await failure(hasty)) is errors.DeadlineExceeded
        service.open.set()
        await asyncio.gather(first, patient)
        await until(lambda: waiting(service) == 0)


async def test_many_refusals_are_a_line_at_once_and_then_one_a_second(caplog):
    caplog.set_level("INFO")
    async with (
        small_service(max_in_flight=1, max_waiting_bytes=0) as service,
        grpc.aio.insecure_channel(service.target) as channel,
    ):
        service.open.clear()
        encode = encoder_pb2_grpc.EncoderStub(channel).EncodeTexts
        running = encode(TEXTS, timeout=T)
        await until(lambda: service.entered == 1)
        refused = [encode(TEXTS, timeout=T) for _ in range(200)]
        for call in refused:
            assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        lines = [
            record for record in caplog.records if getattr(record, "reason", "") == "OVERLOADED"
        ]
        assert 1 <= len(lines) < 10  # a second or more each
        service.open.set()
        await running


async def test_metadata_past_the_bound_is_resource_exhausted_and_the_service_stays():
    async with (
        small_service(max_metadata_bytes=4096) as service,
        grpc.aio.insecure_channel(service.target) as channel,
    ):
        encode = encoder_pb2_grpc.EncoderStub(channel).EncodeTexts
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await encode(TEXTS, timeout=T, metadata=(("x-much", "a" * 5000),))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await encode(TEXTS, timeout=T, metadata=(("x-less", "a" * 3000),))


async def test_message_past_the_bound_is_resource_exhausted_and_the_service_stays():
    async with (
        small_service(max_message_bytes=2**20) as service,
        grpc.aio.insecure_channel(service.target) as channel,
    ):
        encode = encoder_pb2_grpc.EncoderStub(channel).EncodeTexts
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await encode(encoder_pb2.EncodeTextsRequest(texts=["a" * 2**18] * 4), timeout=T)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert service.entered == 0
        await encode(encoder_pb2.EncodeTextsRequest(texts=["a" * (2**18 - 100)] * 4), timeout=T)


async def test_health_port_answers_plaintext_probes_and_nothing_else(tmp_path):
    authority = Authority()
    files = write(tmp_path, "server", authority.pair("localhost"))
    async with small_service(
        tls_cert_file=files.cert,
        tls_key_file=files.key,
        tls_client_ca_file=authority.write(tmp_path),
        health_listen="127.0.0.1:0",
    ) as service:
        target = f"127.0.0.1:{service.health_port}"
        assert await healthy(target)
        with pytest.raises(grpc.aio.AioRpcError):
            await healthy(service.target)
        async with grpc.aio.insecure_channel(target) as channel:
            error = await failure(encoder_pb2_grpc.EncoderStub(channel).EncodeTexts(TEXTS))
        assert error.code == grpc.StatusCode.UNIMPLEMENTED.value[0]


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1:1", True),
        ("127.8.0.1:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("localhost.example.org:1", False),
    ],
)
def test_loopback_is_told_from_the_rest(address, loopback):
    assert is_loopback(address) is loopback


@pytest.mark.parametrize("protection", [{"insecure": True}, {"tokens_file": "tokens"}])
def test_listening_elsewhere_needs_protection_or_a_decision(protection):
    with pytest.raises(ValueError, match="SMALL_INSECURE=true"):
        SmallSettings(listen="0.0.0.0:0")
    SmallSettings(listen="0.0.0.0:0", **protection)
