"""What is done to a service in order to break it; whether it broke is fuzz's to find out.

Every attack takes the service's address and a source of chance, and returns how many inputs it has
tried, by the status that they were answered with ("closed" where the connection was).
"""

from __future__ import annotations

import contextlib
import gzip
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import h2.exceptions

from glimpse.indexer.v1 import indexer_pb2, indexer_pb2_grpc
from tests.robustness import messages
from tests.robustness.messages import Method
from tests.robustness.wire import PREFACE, Wire, framed, has_unreadable_path, tcp, vanish

Attack = Callable[[str, list[Method], random.Random], Counter[str]]

_CALLS_AT_ONCE = 16
_CALL_TIMEOUT_S = 20.0
_ANSWER_TIMEOUT_S = 0.3  # some are never answered: their connection is just closed, or waits
_CONNECTIONS = 50


def arbitrary_messages(address: str, methods: list[Method], rng: random.Random) -> Counter[str]:
    """Hundreds of wrong and nearly right messages, a dozen calls at once."""
    with (
        grpc.insecure_channel(address) as channel,
        ThreadPoolExecutor(_CALLS_AT_ONCE) as threads,
    ):
        calls = []
        for _ in range(500):
            method = rng.choice(methods)
            contents = [messages.request(rng, method.request) for _ in range(rng.choice((1, 1, 3)))]
            calls.append(threads.submit(_call, channel, method.path, contents))
        return Counter(call.result() for call in calls)


def unknown_methods_and_oversize_headers(
    address: str, methods: list[Method], rng: random.Random
) -> Counter[str]:
    """Paths that are not there, metadata of up to a megabyte, many small ones, and odd names."""
    odd = [("x-bin-bin", "%%%"), ("grpc-timeout", "99999999999999S"), ("authorization", "x")]
    odd += [("grpc-encoding", "gzip"), ("content-length", "-1"), ("", "empty"), ("te", "no")]
    tried = [[each] for each in odd]
    for size in (100, 8_000, 20_000, 60_000):
        tried.append([("x-large", "a" * size)])
        tried.append([(f"x-{number}", "a" * (size // 100)) for number in range(100)])
    outcomes: Counter[str] = Counter()
    for headers in tried:
        wire, status = Wire(tcp(address)), None
        with contextlib.suppress(h2.exceptions.ProtocolError, ConnectionError):
            stream = wire.begin(rng.choice(methods).path, *headers)
            wire.send(stream, framed(b""), end=True)
            status = wire.status(stream, _ANSWER_TIMEOUT_S)
        outcomes[named(status)] += 1
        wire.vanish()
    with grpc.insecure_channel(address) as channel:
        for path in ("/", "//", "/glimpse.query.v1.Query/", "/x/y", f"{methods[0].path}x"):
            outcomes[_call(channel, path, [b"\n\x00"])] += 1
        megabyte = (("x-large", "a" * 2**20),)
        outcomes[_call(channel, methods[0].path, [b""], megabyte)] += 1
    return outcomes


def half_open_connections(address: str, methods: list[Method], rng: random.Random) -> Counter[str]:
    """Connections that stop in the middle, all open at once: before a byte, after the preface,
    after the headers, within a message; then all of them vanish."""
    silent: list[socket.socket] = []
    begun: list[Wire] = []
    for number in range(_CONNECTIONS):
        silent.append(tcp(address))
        if number % 2:
            silent[-1].sendall(PREFACE[: rng.randint(1, len(PREFACE))])
        wire = Wire(tcp(address))
        stream = wire.begin(rng.choice(methods).path)
        if number % 2:
            # 60 MiB are promised, a few bytes come.
            wire.send(stream, b"\x00" + (60 * 2**20).to_bytes(4, "big") + b"abc")
        begun.append(wire)
    outcomes = _others(address, methods)
    for connection in silent:
        vanish(connection)
    for wire in begun:
        wire.vanish()
    return outcomes + Counter(closed=2 * _CONNECTIONS)


def slow_readers(address: str, methods: list[Method], rng: random.Random) -> Counter[str]:
    """Callers that take none of their answers; meanwhile others are served."""
    wires = []
    for _ in range(10):
        wire = Wire(tcp(address), window=0)
        for _ in range(10):
            method = rng.choice(methods)
            stream = wire.begin(method.path)
            content = messages.filled(rng, method.request).SerializeToString()
            wire.send(stream, framed(content), end=True)
        wires.append(wire)
    outcomes = _others(address, methods)
    for wire in wires:
        wire.vanish()
    return outcomes + Counter(closed=100)


def broken_frames(address: str, methods: list[Method], rng: random.Random) -> Counter[str]:
    """Bytes that are no HTTP/2, such as TLS, and HTTP/2 with changed bytes."""
    conversation = _conversation(rng.choice(methods).path)
    inputs = [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03"]
    inputs += [rng.randbytes(rng.randint(1, 5_000)) for _ in range(10)]
    inputs += [PREFACE + rng.randbytes(rng.randint(1, 5_000)) for _ in range(10)]
    changed = [messages.mutated(rng, conversation) for _ in range(60)]
    # Those would end gRPC's server: tests/rpc/test_server.py holds what becomes of it then.
    inputs += [PREFACE + content for content in changed if not has_unreadable_path(content)]
    for content in inputs:
        connection = tcp(address)
        with contextlib.suppress(ConnectionError, TimeoutError):
            connection.sendall(content)
            connection.settimeout(0.02)
            connection.recv(4096)
        vanish(connection)
    return Counter(closed=len(inputs))


def rapid_resets(address: str, methods: list[Method], rng: random.Random) -> Counter[str]:
    """Calls that are cancelled as soon as they have begun."""
    wire = Wire(tcp(address))
    calls = 0
    with contextlib.suppress(ConnectionError, h2.exceptions.ProtocolError):
        for _ in range(300):
            stream = wire.begin(rng.choice(methods).path)
            wire.send(stream, framed(b"abc"), end=rng.random() < 0.5)
            calls += 1
            wire.reset(stream)
    wire.vanish()
    return Counter(closed=calls)


def compressed_bombs(address: str, methods: list[Method], rng: random.Random) -> Counter[str]:
    """Messages that say they are compressed: 100 MiB of zeros, and what is no gzip at all."""
    outcomes: Counter[str] = Counter()
    for content in (_BOMB, b"no gzip", _BOMB[: len(_BOMB) // 2], gzip.compress(b"")):
        wire = Wire(tcp(address))
        stream = wire.begin(rng.choice(methods).path, ("grpc-encoding", "gzip"))
        rest = framed(content, compressed=True)
        while (sent := wire.send(stream, rest, end=True)) < len(rest):
            rest = rest[sent:]
            if not wire.read(5):
                break
        outcomes[named(wire.status(stream, _ANSWER_TIMEOUT_S))] += 1
        wire.vanish()
    return outcomes


ATTACKS: tuple[Attack, ...] = (
    arbitrary_messages,
    unknown_methods_and_oversize_headers,
    half_open_connections,
    slow_readers,
    broken_frames,
    rapid_resets,
    compressed_bombs,
)

_BOMB = gzip.compress(bytes(100 * 2**20), 6)


def endless_stream(address: str, count: int) -> float:
    """Sends one IndexImages stream of `count` images, one in a thousand with a picture; the
    rest have wrong ids. Returns how many were acknowledged each second; raises if one was not."""
    options = indexer_pb2.IndexOptions(
        collection=messages.COLLECTION, create_collection=True, force=True
    )

    def requests() -> Iterator[indexer_pb2.IndexImagesRequest]:
        yield indexer_pb2.IndexImagesRequest(options=options)
        for number in range(count):
            image = indexer_pb2.Image(sequence=number, id="no id!")
            if number % 1_000 == 0:
                image.id, image.content = f"picture-{number}", messages.picture()
            yield indexer_pb2.IndexImagesRequest(image=image)

    started_s = time.monotonic()
    with grpc.insecure_channel(address) as channel:
        acknowledged = 0
        for response in indexer_pb2_grpc.IndexerStub(channel).IndexImages(requests()):
            acknowledged += response.WhichOneof("message") == "acknowledgement"
    if acknowledged != count:
        raise AssertionError(f"{count} images were sent, {acknowledged} acknowledged")
    return count / (time.monotonic() - started_s)


def _conversation(path: str) -> bytes:
    """What a call looks like on the wire, after the preface."""
    ours, theirs = socket.socketpair()
    wire = Wire(ours)
    wire.send(wire.begin(path), framed(b"\x0a\x03abc"), end=True)
    with theirs:
        content = theirs.recv(65536)
    ours.close()
    return content[len(PREFACE) :]


def _others(address: str, methods: list[Method]) -> Counter[str]:
    """How somebody else's calls end meanwhile, health checks among them."""
    paths = ["/grpc.health.v1.Health/Check", *(method.path for method in methods)]
    with grpc.insecure_channel(address) as channel:
        return Counter(_call(channel, path, [b""]) for path in paths)


def _call(
    channel: grpc.Channel,
    path: str,
    contents: list[bytes],
    metadata: tuple[tuple[str, str], ...] = (),
) -> str:
    """The name of the status that a call of raw messages ends with."""
    call = channel.stream_stream(path)(iter(contents), timeout=_CALL_TIMEOUT_S, metadata=metadata)
    with contextlib.suppress(grpc.RpcError):
        for _ in call:
            pass
    return call.code().name


def named(status: str | None) -> str:
    """A grpc-status by its name; "closed" where there was none."""
    if status is None:
        return "closed"
    return next(code.name for code in grpc.StatusCode if str(code.value[0]) == status)
