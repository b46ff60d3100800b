"""How glimpse's peers reach each other: one gRPC channel per peer."""

from __future__ import annotations

import json
from typing import cast

import grpc

from glimpse.transport.credentials import PLAINTEXT, Credentials
from glimpse.transport.host_port import is_loopback
from glimpse.transport.reloading_channel import ReloadingAioChannel, ReloadingChannel

MAX_MESSAGE_BYTES = 64 * 2**20
"""Largest message that a channel takes or sends unless told otherwise, in bytes."""

# A connection that is not there by then is tried again, after the name has been resolved anew: the
# address of a pod that has gone may swallow what is sent there, and where a caller knows no other,
# calls wait for it. Otherwise that takes 10 s, by the time-out of keep-alive, in which most calls
# end by their deadline. A connection with TLS takes up to four round trips.
_MAX_CONNECT_S = 2.0

# A service that refuses says after how long to come back, or that it is too late for that. gRPC's
# own RESOURCE_EXHAUSTED, for messages that are too large, says neither: tries end with the fifth.
_RETRY = {
    "maxAttempts": 5,
    "initialBackoff": "0.05s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    # What another server than ours gives to calls that it has received and not begun when it stops.
    "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED"],
}
# A failed try costs a token, a call that went well brings a tenth back; below half of them nothing
# is tried again: a service that is overloaded for long gets a tenth of its calls twice, not five
# times. The reserve is for a pod that dies with hundreds of calls on it.
_THROTTLING = {"maxTokens": 1000, "tokenRatio": 0.1}
_STREAMS = [
    {"service": "glimpse.indexer.v1.Indexer", "method": method}
    for method in ("IndexImages", "ImportImages")
]


def channel_options(
    target: str,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    retry: bool = True,
    max_connect_s: float = _MAX_CONNECT_S,
) -> list[tuple[str, int | str]]:
    """Round robin over a name's addresses, keep-alive, message limits, and retries if wanted.

    Retries are safe: every unary call of glimpse may be repeated. A stream of images is not gRPC's
    to repeat: who sends it takes it up where acknowledgements ended.
    """
    methods: list[dict[str, object]] = [{"name": _STREAMS}]
    service_config: dict[str, object] = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": methods,
    }
    options: list[tuple[str, int | str]] = []
    if retry:
        methods.append({"name": [{}], "retryPolicy": _RETRY})
        service_config["retryThrottling"] = _THROTTLING
        # Only what was kept can be sent again; gRPC keeps 256 KiB, and pictures are larger.
        options.append(("grpc.per_rpc_retry_buffer_size", max_message_bytes))
    return [
        *options,
        ("grpc.service_config", json.dumps(service_config)),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        # A peer that comes back is noticed within a second, not after gRPC's two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        ("grpc.min_reconnect_backoff_ms", int(max_connect_s * 1000)),  # of one try, by its name
        # Nor after half a minute where it comes back under another address, as a pod does.
        ("grpc.dns_min_time_between_resolutions_ms", 1_000),
        *proxy_options(target),
    ]


def proxy_options(target: str) -> list[tuple[str, int]]:
    """Keeps a channel to this machine itself from http_proxy; others follow it and no_proxy."""
    return [("grpc.enable_http_proxy", 0)] if is_loopback(target) else []


def open_aio_channel(
    target: str,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    retry: bool = True,
    credentials: Credentials = PLAINTEXT,
    max_connect_s: float = _MAX_CONNECT_S,
) -> grpc.aio.Channel:
    """An asyncio channel to `target`: HOST:PORT, or dns:///NAME:PORT for all of a name.

    Raises UnusableCredentials.
    """
    options = channel_options(target, max_message_bytes, retry, max_connect_s)

    def open_one(tls: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
        if tls is None:
            return grpc.aio.insecure_channel(target, options=options)
        return grpc.aio.secure_channel(target, tls, options=options)

    if not credentials:
        return open_one(None)
    return cast("grpc.aio.Channel", ReloadingAioChannel(open_one, credentials))


def open_channel(
    target: str,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    credentials: Credentials = PLAINTEXT,
) -> grpc.Channel:
    """A blocking channel to `target`; otherwise as open_aio_channel."""
    options = channel_options(target, max_message_bytes)

    def open_one(tls: grpc.ChannelCredentials | None) -> grpc.Channel:
        if tls is None:
            return grpc.insecure_channel(target, options=options)
        return grpc.secure_channel(target, tls, options=options)

    if not credentials:
        return open_one(None)
    return cast("grpc.Channel", ReloadingChannel(open_one, credentials))
