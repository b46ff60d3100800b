"""Who may call what: tokens and their scopes, and that they never show."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
import types

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import generate_latest

from glimpse import errors
from glimpse import errors as client_errors
from glimpse.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from glimpse.indexer.v1 import indexer_pb2, indexer_pb2_grpc
from glimpse.query.v1 import query_pb2
from glimpse.tokens import line, new_token
from glimpse.transport.channel import open_aio_channel
from glimpse.transport.credentials import Credentials
from glimpse.transport.status import from_rpc_error
from services.common import auth
from services.common.auth import METHOD_SCOPES
from services.common.deadline import Deadline
from services.common.encoder_client import EncoderClient
from tests.authority import replaced
from tests.small_service import small_service

T = 30.0
TEXTS = encoder_pb2.EncodeTextsRequest(texts=["hello"])


class Tokens:
    """A tokens file and the tokens of it, by name."""

    def __init__(self, folder):
        self.path = folder / "tokens"
        self.tokens = {}
        self._lines = ["# callers", ""]

    def add(self, name, *scopes):
        token = new_token()
        self.tokens[name] = token
        self._lines.append(line(token, scopes, name))
        replaced(self.path, "\n".join(self._lines).encode())
        return token

    def remove(self, name):
        self._lines = [each for each in self._lines if not each.endswith(f" {name}")]
        replaced(self.path, "\n".join(self._lines).encode())


@pytest.fixture
def tokens(tmp_path):
    made = Tokens(tmp_path)
    made.add("service", "encode")
    made.add("loader", "index")
    made.add("owner", "index", "admin")
    return made


@pytest.fixture
async def service(tokens):
    async with small_service(tokens_file=tokens.path, channelz=True) as made:
        yield made


async def outcome(service, method, token=None, metadata=None):
    """The error that a call ends with, None if with none."""
    metadata = metadata or ((("authorization", f"Bearer {token}"),) if token else ())
    async with grpc.aio.insecure_channel(service.target) as channel:
        try:
            await method(channel)(metadata)
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error, "service")
    return None


def encode(channel):
    stub = encoder_pb2_grpc.EncoderStub(channel)
    return lambda metadata: stub.EncodeTexts(TEXTS, timeout=T, metadata=metadata)


def drop(channel):
    stub = indexer_pb2_grpc.IndexerStub(channel)
    request = indexer_pb2.DropCollectionRequest()
    return lambda metadata: stub.DropCollection(request, timeout=T, metadata=metadata)


def channelz(channel):
    stub = channelz_pb2_grpc.ChannelzStub(channel)
    request = channelz_pb2.GetServersRequest()
    return lambda metadata: stub.GetServers(request, timeout=T, metadata=metadata)


def test_every_method_of_the_contracts_has_its_scope():
    files = (encoder_pb2.DESCRIPTOR, indexer_pb2.DESCRIPTOR, query_pb2.DESCRIPTOR)
    methods = {
        f"/{service.full_name}/{method.name}"
        for file in files
        for service in file.services_by_name.values()
        for method in service.methods
    }
    assert set(METHOD_SCOPES) == methods


async def test_token_with_the_scope_may_call(service, tokens):
    assert await outcome(service, encode, tokens.tokens["service"]) is None
    assert await outcome(service, drop, tokens.tokens["owner"]) is None
    assert await outcome(service, channelz, tokens.tokens["owner"]) is None


@pytest.mark.parametrize("method", [encode, drop, channelz])
async def test_call_without_a_token_is_unauthenticated(method, service):
    error = await outcome(service, method)
    assert (type(error), error.reason) == (errors.Unauthenticated, "TOKEN_MISSING")
    assert service.entered == 0


@pytest.mark.parametrize("method", [encode, drop, channelz])
async def test_token_without_the_scope_is_denied(method, service, tokens):
    error = await outcome(service, method, tokens.tokens["loader"])
    assert (type(error), error.reason) == (errors.PermissionDenied, "SCOPE_MISSING")
    assert service.entered == 0


async def test_unknown_token_is_unauthenticated(service):
    error = await outcome(service, encode, new_token())
    assert (type(error), error.reason) == (errors.Unauthenticated, "TOKEN_UNKNOWN")


@pytest.mark.parametrize("value", ["", "Bearer", "Basic abc", "Bearer a b"])
async def test_malformed_authorization_is_unauthenticated(value, service):
    error = await outcome(service, encode, metadata=(("authorization", value),))
    assert (type(error), error.reason) == (errors.Unauthenticated, "TOKEN_MALFORMED")


async def test_second_authorization_is_refused_beside_a_good_one(service, tokens):
    good = ("authorization", f"Bearer {tokens.tokens['service']}")
    error = await outcome(service, encode, metadata=(good, good))
    assert error.reason == "TOKEN_MALFORMED"


async def test_hash_of_a_token_is_no_token(service, tokens):
    stored = tokens.path.read_text().splitlines()[2].split()[1]
    assert (await outcome(service, encode, stored)).reason == "TOKEN_UNKNOWN"


async def test_refused_stream_ends_before_its_first_message(service):
    async with grpc.aio.insecure_channel(service.target) as channel:
        call = indexer_pb2_grpc.IndexerStub(channel).IndexImages(timeout=T)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_health_and_reflection_need_no_token(service):
    async with grpc.aio.insecure_channel(service.target) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        answer = await check(health_pb2.HealthCheckRequest(), timeout=T)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        async for answer in stub.ServerReflectionInfo(iter([request]), timeout=T):
            assert answer.list_services_response.service


async def test_reflection_and_channelz_answer_only_where_they_are_on():
    async with (
        small_service(reflection=False, channelz=False) as service,
        grpc.aio.insecure_channel(service.target) as channel,
    ):
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        reflected = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(asked)
        listed = channelz_pb2_grpc.ChannelzStub(channel).GetServers(
            channelz_pb2.GetServersRequest(), timeout=T
        )
        for answer in (reflected.read(), listed):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await answer
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_token_is_compared_with_every_known_one_in_constant_time(
    service, tokens, monkeypatch
):
    compared = []

    def compare(known, presented):
        compared.append(known)
        return hmac.compare_digest(known, presented)

    # How long a comparison takes cannot be tested; that the library's is used, for all, can.
    monkeypatch.setattr(auth, "hmac", types.SimpleNamespace(compare_digest=compare))
    assert await outcome(service, encode, tokens.tokens["service"]) is None
    assert len(set(compared)) == len(tokens.tokens)


async def test_tokens_come_and_go_without_a_restart(service, tokens):
    first, added = tokens.tokens["service"], tokens.add("another", "encode")
    tokens.remove("service")
    ends_s = time.monotonic() + 30
    while await outcome(service, encode, added) is not None:
        assert time.monotonic() < ends_s
    assert (await outcome(service, encode, first)).reason == "TOKEN_UNKNOWN"


async def test_broken_tokens_file_leaves_those_of_before_in_force(service, tokens, caplog):
    secret = new_token()
    replaced(tokens.path, f"encode {secret} careless".encode())
    ends_s = time.monotonic() + 30
    while "remains in use" not in caplog.text:
        assert await outcome(service, encode, tokens.tokens["service"]) is None
        assert time.monotonic() < ends_s
    assert "SMALL_TOKENS_FILE: line 1 must be SCOPES SHA-256 NAME" in caplog.text
    assert secret not in caplog.text


async def test_tokens_are_neither_in_logs_nor_in_metrics_nor_in_errors(service, tokens, caplog):
    caplog.set_level(logging.DEBUG)
    unknown = new_token()
    told = [
        str(await outcome(service, method, token))
        for method in (encode, drop)
        for token in (unknown, *tokens.tokens.values())
    ]
    lines = " ".join(str(vars(record)) for record in caplog.records)
    assert "UNAUTHENTICATED" in generate_latest(service.registry).decode()
    assert "loader" in lines
    for token in (unknown, *tokens.tokens.values()):
        assert token not in lines
        assert token not in " ".join(told)
        assert token not in generate_latest(service.registry).decode()


async def test_clients_send_their_token_or_that_of_a_file_read_again(
    connect, service, tokens, tmp_path
):
    def drop_with(token):
        with connect(service.target, service.target, token=token) as client:
            client.drop_collection("pictures")

    await asyncio.to_thread(drop_with, tokens.tokens["owner"])
    with pytest.raises(client_errors.PermissionDenied):
        await asyncio.to_thread(drop_with, tokens.tokens["loader"])
    path = replaced(tmp_path / "token", tokens.tokens["owner"].encode() + b"\n")
    await asyncio.to_thread(drop_with, path)

    channel = open_aio_channel(service.target, credentials=Credentials(token_file=path))
    stub = encoder_pb2_grpc.EncoderStub(channel)
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.EncodeTexts(TEXTS, timeout=T)
    replaced(path, tokens.tokens["service"].encode())
    ends_s = time.monotonic() + 30
    while not service.entered:
        try:
            await stub.EncodeTexts(TEXTS, timeout=T)
        except grpc.aio.AioRpcError:
            assert time.monotonic() < ends_s
    await channel.close()


async def test_service_that_the_encoder_refuses_says_that_it_is_not_its_callers_fault(service):
    peer = EncoderClient(service.target, 2**20)
    with pytest.raises(errors.Unavailable) as caught:
        await peer.encode_texts(["dog"], Deadline(T))
    assert caught.value.reason == "ENCODER_REFUSES"
    await peer.close()
