"""Opens the ports of a service, gRPC's and that of its metrics."""

from __future__ import annotations

import errno
import socket
from typing import Any

import grpc
from prometheus_client import CollectorRegistry, start_http_server

from glimpse.transport.host_port import split_host_port


def bind(
    server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None = None
) -> int:
    """Has a gRPC server listen on HOST:PORT; returns the port. Raises OSError."""
    problem = _problem(address)
    if problem is not None and problem.errno == errno.EADDRINUSE:
        raise problem
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError:
        port = 0
    if port == 0:
        raise problem or OSError(errno.EADDRNOTAVAIL, "gRPC cannot, and does not say why")
    return port


def serve_metrics(address: str, registry: CollectorRegistry) -> int:
    """Serves /metrics on HOST:PORT, in threads; returns the port. Raises OSError."""
    host, port = split_host_port(address)
    if host == "::" and not socket.has_dualstack_ipv6():
        host = "0.0.0.0"  # noqa: S104 (every address, as asked: gRPC does likewise)
    server, _ = start_http_server(int(port), host, registry)
    return server.server_port


def _problem(address: str) -> OSError | None:
    """Why nobody could listen on HOST:PORT; gRPC writes that to its own log, if anywhere."""
    host, port = split_host_port(address)
    problems = []
    try:
        for family, *_, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            if (error := _error_of_binding(family, where)) is not None:
                problems.append(error)
    except OSError as error:
        return error
    taken = (error for error in problems if error.errno == errno.EADDRINUSE)
    return next(taken, problems[0] if problems else None)


def _error_of_binding(family: socket.AddressFamily, where: tuple[Any, ...]) -> OSError | None:
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as error:
        return error
    return None
