"""Whether a process of the stack answers, and with which model."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from glimpse.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from glimpse.transport.channel import open_channel
from glimpse.transport.credentials import PLAINTEXT, Credentials
from glimpse.transport.diagnosis import Diagnosis
from glimpse.transport.status import from_rpc_error

_CALL_TIMEOUT_S = 2.0


def is_serving(address: str, credentials: Credentials = PLAINTEXT) -> bool:
    """Whether the service at HOST:PORT says SERVING by grpc.health.v1."""
    try:
        return _says_serving(address, credentials)
    except grpc.RpcError:
        return False


class Condition(NamedTuple):
    """How a service is: whether it answers, and why it does not say SERVING, "" where it does."""

    answers: bool
    problem: str


def condition_of(address: str, credentials: Credentials, peer: str) -> Condition:
    """How the service at HOST:PORT is, which messages call `peer`."""
    try:
        if _says_serving(address, credentials):
            return Condition(True, "")
    except grpc.RpcError as error:
        found = from_rpc_error(error, peer)
        return Condition(False, str(Diagnosis(peer, address, credentials).explained(found)))
    why = why_no_model(address, credentials) or "its log says what it waits for"
    return Condition(True, f"{peer} is not ready: {why}")


def _says_serving(address: str, credentials: Credentials) -> bool:
    with contextlib.closing(open_channel(address, credentials=credentials)) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest()
        answer = stub.Check(request, timeout=_CALL_TIMEOUT_S)  # type: ignore[attr-defined]
        return answer.status == health_pb2.HealthCheckResponse.SERVING


def is_milvus_ready(uri: str) -> bool:
    """Whether a Milvus answers a call at http://HOST:PORT; only the status is looked at."""
    with contextlib.closing(open_channel(uri.partition("://")[2] or uri)) as channel:
        # An empty request is the same bytes in every version of Milvus' contract.
        get_version = channel.unary_unary("/milvus.proto.milvus.MilvusService/GetVersion")
        try:
            get_version(b"", timeout=_CALL_TIMEOUT_S)
        except grpc.RpcError:
            return False
        return True


def why_no_model(address: str, credentials: Credentials) -> str:
    """What the encoder at HOST:PORT is waiting for, in its own words; "" if it is none, or does not
    tell."""
    with contextlib.closing(open_channel(address, credentials=credentials)) as channel:
        stub = encoder_pb2_grpc.EncoderStub(channel)
        try:
            stub.GetModel(encoder_pb2.GetModelRequest(), timeout=_CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            found = from_rpc_error(error, "")
            return str(found) if found.reason == "LOADING" else ""
        return ""


def model_of(address: str, credentials: Credentials) -> encoder_pb2.Model:
    """What the encoder at HOST:PORT has loaded. Raises GlimpseError."""
    with contextlib.closing(open_channel(address, credentials=credentials)) as channel:
        stub = encoder_pb2_grpc.EncoderStub(channel)
        try:
            return stub.GetModel(encoder_pb2.GetModelRequest(), timeout=_CALL_TIMEOUT_S).model
        except grpc.RpcError as error:
            found = from_rpc_error(error, "the encoder")
            raise Diagnosis("the encoder", address, credentials).explained(found) from error


def model_at(address: str) -> encoder_pb2.Model | None:
    """What the encoder at HOST:PORT has loaded; None if it does not tell, as without a token."""
    with contextlib.closing(open_channel(address)) as channel:
        stub = encoder_pb2_grpc.EncoderStub(channel)
        try:
            return stub.GetModel(encoder_pb2.GetModelRequest(), timeout=_CALL_TIMEOUT_S).model
        except grpc.RpcError:
            return None
