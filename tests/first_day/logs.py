"""What services write into their logs while callers send what is no call: JSON, or raw lines."""

from __future__ import annotations

import contextlib
import json
import random
import ssl
from collections.abc import Sequence
from pathlib import Path

import grpc

from tests.authority import Authority, write
from tests.first_day.callers import raw_call
from tests.first_day.replicas import Replicas, started
from tests.robustness.attacks import ATTACKS, broken_frames, half_open_connections
from tests.robustness.messages import METHODS
from tests.robustness.wire import PREFACE, tcp

_NOWHERE = "127.0.0.1:1"
_PLAINTEXT_CALLS = 20
_TIMEOUT_S = 5.0


def measure(folder: Path, services: Sequence[str], seed: int) -> list[str]:
    """Every line of the services' logs that is no JSON object, `services` being attacked twice:
    with TLS, where they show certificates and ask for them, and without."""
    authority = Authority()
    files = write(folder, "server", authority.pair("localhost"))
    tls = {
        "TLS_CERT_FILE": str(files.cert),
        "TLS_KEY_FILE": str(files.key),
        "TLS_CLIENT_CA_FILE": str(authority.write(folder)),
    }
    raw: list[str] = []
    for name in services:
        # Milvus and the encoder are nowhere: what services write about that belongs to it.
        peers = {"ENCODER": _NOWHERE, "MILVUS_URI": f"http://{_NOWHERE}"}
        settings = {"LOG_LEVEL": "DEBUG", **({} if name == "encoder" else peers)}
        plain = Replicas(name, _folder(folder, f"{name}-plain"), settings, count=1)
        secure = Replicas(name, _folder(folder, f"{name}-tls"), settings | tls, count=1)
        with started(plain, secure, health="liveness"):
            _attack_plain(name, plain.addresses[0], random.Random(seed))
            _attack_tls(name, secure.addresses[0], random.Random(seed))
            for each in (plain, secure):
                each.await_serving("liveness")
                each.stop(0)
        raw += [f"{each.log}: {line}" for each in (plain, secure) for line in raw_lines(each.log)]
    return raw


def raw_lines(log: Path) -> list[str]:
    """The lines that are no JSON object."""
    with log.open(encoding="utf-8", errors="replace") as lines:
        return [line.rstrip("\n") for line in lines if not _is_object(line)]


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except json.JSONDecodeError:
        return False


def _attack_plain(service: str, address: str, rng: random.Random) -> None:
    methods = [method for method in METHODS if method.service == service]
    for attack in ATTACKS:
        attack(address, methods, rng)
    _shake_hands(address)


def _attack_tls(service: str, address: str, rng: random.Random) -> None:
    methods = [method for method in METHODS if method.service == service]
    broken_frames(address, methods, rng)
    with contextlib.suppress(ConnectionError):
        half_open_connections(address, methods, rng)
    _shake_hands(address)
    for _ in range(_PLAINTEXT_CALLS):
        with grpc.insecure_channel(address) as channel, contextlib.suppress(grpc.RpcError):
            raw_call(service, channel)()
    with tcp(address) as connection, contextlib.suppress(OSError):
        connection.sendall(PREFACE)


def _shake_hands(address: str) -> None:
    """As a browser does, that shows no certificate and knows no HTTP/2, with several versions."""
    for newest in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = newest
        with contextlib.suppress(OSError), tcp(address) as connection:
            connection.settimeout(_TIMEOUT_S)
            with context.wrap_socket(connection) as secure:
                secure.sendall(b"GET / HTTP/1.1\r\n\r\n")
                secure.recv(4096)


def _folder(folder: Path, name: str) -> Path:
    made = folder / name
    made.mkdir()
    return made
