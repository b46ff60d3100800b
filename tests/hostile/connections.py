"""Attacks below the level of calls: connections, streams, headers, frames. Those of make fuzz are
among them; these go on for a while, and hold what they have opened meanwhile.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random

import h2.exceptions

from tests.hostile.attacks import Assault, Attack
from tests.hostile.contracts import well_formed_messages
from tests.hostile.sizes import MAX_CALL_METADATA_BYTES
from tests.robustness import attacks as fuzzed
from tests.robustness.messages import METHODS, Method
from tests.robustness.wire import PREFACE, Wire, framed, tcp, vanish

_Attack = Callable[[str, float, list[Method]], Counter[str]]

_STREAMS = 2_000
_CONNECTIONS = 8
_SLOW_STREAMS = 200
_UNREAD_CALLS = 100
_SLOW_PERIOD_S = 0.01
_IDLE_CONNECTIONS = 1_000
_FRAMES = 20_000
_CLOSE_TIMEOUT_S = 0.5
# Every header counts for 32 bytes more than it has, and gRPC sends some of its own.
_HEADER_BYTES, _OWN_BYTES = 32, 700

_DATA, _SETTINGS, _PING, _WINDOW_UPDATE, _PRIORITY = 0, 4, 6, 8, 2


def connection_attacks() -> Iterator[Attack]:
    """For each service, with its own methods."""
    for service in ("encoder", "indexer", "query"):
        methods = [method for method in METHODS if method.service == service]
        for attack in fuzzed.ATTACKS:
            yield Attack(_name(service, attack), _fuzzing(attack, methods))
        for attack in (
            _streams_opened_and_left,
            _large_promises,
            _slow_streams,
            _idle_connections,
            _cancelled_calls,
            _answers_nobody_takes,
        ):
            yield Attack(_name(service, attack), _over(attack, methods))
        for name, content in _frames().items():
            yield Attack(f"{service}:{name}", lambda _, content=content: _sending(content))
        for name, headers in _headers().items():
            yield Attack(
                f"{service}:{name}",
                lambda rng, headers=headers, methods=methods: _with_headers(rng, methods, headers),
            )


def _name(service: str, attack: Callable[..., object]) -> str:
    return f"{service}:{attack.__name__.strip('_').replace('_', '-')}"


def _fuzzing(attack: fuzzed.Attack, methods: list[Method]) -> Callable[[Random], Assault]:
    return lambda rng: lambda address, _: attack(address, methods, rng)


def _over(attack: _Attack, methods: list[Method]) -> Callable[[Random], Assault]:
    return lambda _: lambda address, seconds: attack(address, seconds, methods)


def _streams_opened_and_left(address: str, seconds: float, methods: list[Method]) -> Counter[str]:
    """Thousands of streams on a few connections, without a message; left open for a while."""
    return _held(address, seconds, methods, b"")


def _large_promises(address: str, seconds: float, methods: list[Method]) -> Counter[str]:
    """Streams that each promise a message of 60 MiB, and send a little of it."""
    return _held(address, seconds, methods, b"\x00" + struct.pack(">I", 60 * 2**20) + b"abc")


def _held(address: str, seconds: float, methods: list[Method], content: bytes) -> Counter[str]:
    ends_s = time.monotonic() + seconds
    wires = [Wire(tcp(address)) for _ in range(_CONNECTIONS)]
    opened = 0
    with _until_closed():
        for wire, method in _cycled(wires, methods, _STREAMS):
            wire.send(wire.begin(method.path), content)
            opened += 1
    time.sleep(max(0.0, ends_s - time.monotonic()))  # that they are held is the attack
    for wire in wires:
        wire.vanish()
    return Counter(left=opened)


def _slow_streams(address: str, seconds: float, methods: list[Method]) -> Counter[str]:
    """Requests that come byte by byte, on many streams at once."""
    ends_s = time.monotonic() + seconds
    wire = Wire(tcp(address))
    with _until_closed():
        streams = [
            (wire.begin(method.path), _framed(method))
            for _, method in _cycled([wire], methods, _SLOW_STREAMS)
        ]
        for sent in itertools.count():
            for stream, content in streams:
                if sent < len(content):
                    wire.send(stream, content[sent : sent + 1])
            if time.monotonic() > ends_s:
                break
            time.sleep(_SLOW_PERIOD_S)
    wire.vanish()
    return Counter(left=_SLOW_STREAMS)


def _idle_connections(address: str, seconds: float, _: list[Method]) -> Counter[str]:
    """A thousand connections; half of them say how they begin, and then no more."""
    ends_s = time.monotonic() + seconds
    connections: list[socket.socket] = []
    with contextlib.suppress(OSError):  # there may be no more descriptors here
        for number in range(_IDLE_CONNECTIONS):
            connections.append(tcp(address))
            if number % 2:
                connections[-1].sendall(PREFACE)
    time.sleep(max(0.0, ends_s - time.monotonic()))  # that they are held is the attack
    for connection in connections:
        vanish(connection)
    return Counter(left=len(connections))


def _cancelled_calls(address: str, seconds: float, methods: list[Method]) -> Counter[str]:
    """Good calls, each cancelled as soon as it is sent."""
    ends_s = time.monotonic() + seconds
    wire, cancelled = Wire(tcp(address)), 0
    contents = {method.path: _framed(method) for method in methods}
    with _until_closed():
        for path, content in itertools.cycle(contents.items()):
            stream = wire.begin(path)
            wire.send(stream, content, end=True)
            wire.reset(stream)
            cancelled += 1
            wire.read(0.001)
            if time.monotonic() > ends_s and cancelled >= len(methods):
                break
    wire.vanish()
    return Counter(cancelled=cancelled)


def _answers_nobody_takes(address: str, seconds: float, methods: list[Method]) -> Counter[str]:
    """Good calls, a hundred at once, on a connection that lets no answer through."""
    ends_s = time.monotonic() + seconds
    wire, sent = Wire(tcp(address), window=0), 0
    with _until_closed():
        for _, method in _cycled([wire], methods, _UNREAD_CALLS):
            wire.send(wire.begin(method.path), _framed(method), end=True)
            sent += 1
    time.sleep(max(0.0, ends_s - time.monotonic()))  # that they are held is the attack
    wire.vanish()
    return Counter(left=sent)


def _cycled(wires: list[Wire], methods: list[Method], count: int) -> Iterator[tuple[Wire, Method]]:
    """So many, each wire and each method in turn."""
    return itertools.islice(zip(itertools.cycle(wires), itertools.cycle(methods)), count)


def _framed(method: Method) -> bytes:
    return b"".join(map(framed, well_formed_messages(method)))


def _until_closed() -> contextlib.AbstractContextManager[None]:
    """A service may close a connection on which it is attacked."""
    return contextlib.suppress(ConnectionError, h2.exceptions.ProtocolError)


def _frames() -> dict[str, bytes]:
    """What an HTTP/2 connection may be filled with besides calls, after its beginning."""
    update = _frame(_WINDOW_UPDATE, 0, struct.pack(">I", 1))
    return {
        "pings": _frame(_PING, 0, bytes(8)) * _FRAMES,
        "settings": _frame(_SETTINGS, 0, struct.pack(">HI", 4, 65_535)) * _FRAMES,
        "window-updates": update * _FRAMES,
        "priorities": _frame(_PRIORITY, 1, bytes(5)) * _FRAMES,
        "data-of-no-stream": _frame(_DATA, 1, b"") * _FRAMES,
    }


def _frame(kind: int, stream: int, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))[1:] + bytes((kind, 0)) + struct.pack(">I", stream) + content
    )


def _sending(content: bytes) -> Assault:
    """Sends these bytes on a connection, and once it is closed, on the next."""

    def assault(address: str, seconds: float) -> Counter[str]:
        ends_s, outcomes = time.monotonic() + seconds, Counter[str]()
        while time.monotonic() < ends_s or not outcomes:
            connection = tcp(address)
            with contextlib.suppress(OSError):
                connection.settimeout(_CLOSE_TIMEOUT_S)
                connection.sendall(PREFACE + _frame(_SETTINGS, 0, b"") + content)
                while connection.recv(65536):
                    pass
            vanish(connection)
            outcomes["closed"] += 1
        return outcomes

    return assault


def _headers() -> dict[str, list[tuple[str, str]]]:
    most = MAX_CALL_METADATA_BYTES - _OWN_BYTES
    small = (most // (_HEADER_BYTES + 6)) - 1
    return {
        "large-header@max": [("x-large", "a" * (most - _HEADER_BYTES))],
        "large-header@past": [("x-large", "a" * MAX_CALL_METADATA_BYTES)],
        "small-headers@max": [(f"x-{n:03}", "a") for n in range(small)],
        "small-headers@past": [(f"x-{n:03}", "a") for n in range(2 * small)],
        "request-id@max": [("x-request-id", "a" * (most - _HEADER_BYTES))],
        "traceparent@max": [("traceparent", "00-" + "0" * (most - 50))],
        "authorization@max": [("authorization", "Bearer " + "a" * (most - 50))],
    }


def _with_headers(rng: Random, methods: list[Method], headers: list[tuple[str, str]]) -> Assault:
    """Good calls with these headers, many on one connection."""
    method = rng.choice(methods)
    content = _framed(method)

    def assault(address: str, seconds: float) -> Counter[str]:
        ends_s, outcomes = time.monotonic() + seconds, Counter[str]()
        wire = Wire(tcp(address))
        with _until_closed():
            while time.monotonic() < ends_s or not outcomes:
                stream = wire.begin(method.path, *headers)
                wire.send(stream, content, end=True)
                outcomes[fuzzed.named(wire.status(stream, 2.0))] += 1
        wire.vanish()
        return outcomes or Counter(closed=1)

    return assault
