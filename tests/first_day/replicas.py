"""Replicas of a service on addresses of their own, stopped and started again in a moment."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from glimpse.cli.ports import HOST, free_ports
from tests.waiting import wait_until
from tests.zygote import Zygote

_TIMEOUT_S = 2.0


class Replicas:
    """Some processes of one service; a context manager that ends them all."""

    def __init__(
        self, service: str, folder: Path, settings: Mapping[str, str], count: int = 2
    ) -> None:
        """`settings` are named without the service's prefix."""
        self.service = service
        self.log = folder / f"{service}.log"
        """Where all of them write, in JSON unless `settings` say otherwise."""
        ports = free_ports(2 * count)
        self.addresses = [f"{HOST}:{port}" for port in ports[:count]]
        self._probes = [f"{HOST}:{port}" for port in ports[count:]]
        self._settings = settings
        self._zygote = Zygote(service)
        self._pids: dict[int, int] = {}

    @property
    def target(self) -> str:
        """All of them, for a client."""
        return "ipv4:" + ",".join(self.addresses)

    def __enter__(self) -> Replicas:
        self._zygote.__enter__()
        for number in range(len(self.addresses)):
            self.start(number)
        return self

    def __exit__(self, *_: object) -> None:
        self._zygote.__exit__()

    def start(self, number: int) -> None:
        """Returns at once."""
        prefix = self.service.upper()
        values = {
            "LISTEN": self.addresses[number],
            "HEALTH_LISTEN": self._probes[number],
            "METRICS_LISTEN": f"{HOST}:0",
            "LOG_FORMAT": "json",
            **self._settings,
        }
        environment = {f"{prefix}_{name}": value for name, value in values.items()}
        self._pids[number] = self._zygote.start(environment, self.log)

    def await_serving(self, name: str = "") -> None:
        """All of them, by their health of that name."""
        for probe in self._probes:
            wait_until(
                lambda probe=probe: _is_serving(probe, name),
                f"{self.service} does not serve; its log is {self.log}",
            )

    def stop(self, number: int) -> None:
        """Sends SIGTERM, and raises AssertionError unless it ends with 0."""
        pid = self._pids.pop(number)
        os.kill(pid, signal.SIGTERM)
        exit_code = self._zygote.await_end(pid)
        if exit_code:
            raise AssertionError(f"{self.service} ended with {exit_code}; its log is {self.log}")


def _is_serving(address: str, name: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service=name)
        check: Any = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]
        try:
            answer = check(request, timeout=_TIMEOUT_S)
        except grpc.RpcError:
            return False
        return answer.status == health_pb2.HealthCheckResponse.SERVING


@contextlib.contextmanager
def started(*services: Replicas, health: str = "") -> Iterator[Sequence[Replicas]]:
    """All of them, serving by their health of that name."""
    with contextlib.ExitStack() as running:
        for service in services:
            running.enter_context(service)
        for service in services:
            service.await_serving(health)
        yield services
