"""Pods as processes of this machine, from their manifests alone: what a kubelet does, without one.

A container's command is started with exactly its image's and its manifest's variables. Addresses of
Services become ports of the loopback interface, mounted volumes become folders, and no home folder
exists, as on a read-only root file system. Users.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.docker import dockerfile
from glimpse.cli.ports import free_ports
from tests.k8s.manifests import ROOT, Container, Manifests, Object, Pod

_LOOK_S = 0.1


class PodFailed(Exception):
    """What a pod's status would say: the container, and its last line."""


class Node:
    """One machine's ports, volumes and processes. `addresses` are those of hosts without a pod
    here, by HOST:PORT; `changes` are variables that a test sets differently."""

    def __init__(
        self,
        manifests: Manifests,
        folder: Path,
        addresses: Mapping[str, str],
        changes: Mapping[str, str] | None = None,
    ) -> None:
        self.manifests = manifests
        self.folder = folder
        self.changes = dict(changes or {})
        self._addresses = dict(addresses)
        folder.mkdir(parents=True, exist_ok=True)
        self._ports: dict[tuple[str, int], int] = {}
        self._running: dict[str, Running] = {}

    def port(self, pod: str, number: int) -> int:
        """The loopback port that stands for a pod's."""
        if (pod, number) not in self._ports:
            self._ports[pod, number] = free_ports(1)[0]
        return self._ports[pod, number]

    def volume(self, pod: Pod, volume: Object) -> Path:
        """The folder that stands for a volume; a claim's is the same for all pods."""
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        path = self.folder / "volumes" / (claim or f"{pod.name}-{volume['name']}")
        path.mkdir(parents=True, exist_ok=True)
        return path

    def environment(self, container: Container) -> dict[str, str]:
        """The container's variables, with addresses and folders of this machine."""
        values = self.manifests.environment(container)
        values = {name: self._here(container, value) for name, value in values.items()}
        prefix = f"{container.service.upper()}_"
        values |= {name: text for name, text in self.changes.items() if name.startswith(prefix)}
        image = _image(container)
        return {
            **{name: self._here(container, value) for name, value in image.items()},
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            **values,
        }

    def _here(self, container: Container, value: str) -> str:
        """A value with loopback ports for addresses and folders for mounted paths."""
        if found := re.fullmatch(r"\[::\]:(\d+)", value):
            return f"127.0.0.1:{self.port(container.pod.name, int(found[1]))}"
        if found := re.fullmatch(r"(\w+://)/?([\w.-]+):(\d+)", value):
            scheme, host, port = found.groups()
            if f"{host}:{port}" in self._addresses:
                return self._addresses[f"{host}:{port}"]
            # gRPC takes an address of numbers as it is.
            return f"{scheme.removeprefix('dns://')}127.0.0.1:{self.port(host, int(port))}"
        for path, volume in container.mounts.items():
            if value == path or value.startswith(path + "/"):
                return str(self.volume(container.pod, volume)) + value[len(path) :]
        # Anything else would be on the image's read-only file system.
        return value if value != "/tmp" else str(self.folder / "read-only")

    def start(self, pod: Pod) -> Running:
        """Runs the init containers to their end, starts the main one. Raises PodFailed."""
        for container in pod.containers[:-1]:
            self.run(container)
        running = Running(self, pod.main)
        self._running[pod.name] = running
        return running

    def run(self, container: Container) -> str:
        """Runs a container to its end; returns what it wrote. Raises PodFailed."""
        process = self.popen(container, subprocess.PIPE)
        try:
            said = process.communicate(timeout=120)[0].decode()
        finally:
            process.kill()
        if process.returncode != 0:
            raise PodFailed(f"{container}: exit code {process.returncode}: {_last_line(said)}")
        return said

    def popen(self, container: Container, output: int | BinaryIO) -> subprocess.Popen[bytes]:
        """Starts a container's command. Raises PodFailed when there is no such program."""
        environment = self.environment(container)
        command = [self._here(container, word) for word in container.spec["command"]]
        program = shutil.which(command[0], path=environment["PATH"])
        if program is None:
            raise PodFailed(f"{container}: {command[0]} is not in the image")
        return subprocess.Popen(
            [program, *command[1:]],
            env=environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )

    def kill(self) -> None:
        """Ends what is still running."""
        for running in self._running.values():
            running.process.kill()
            running.process.wait()


class Running:
    """A pod's main container, probed and stopped as its manifest says."""

    def __init__(self, node: Node, container: Container) -> None:
        self.container = container
        self._node = node
        self._log = node.folder / f"{container.pod.name}.log"
        with self._log.open("wb") as log:
            self.process = node.popen(container, log)

    def await_probe(self, name: str) -> None:
        """Probes until it succeeds, for as long as the manifest lets it. Raises PodFailed."""
        probe = self.container.probes[name]
        tries = probe["failureThreshold"] if name == "startupProbe" else 60
        ends_s = time.monotonic() + tries * probe["periodSeconds"]
        while time.monotonic() < ends_s:
            if self.process.poll() is not None:
                code, line = self.process.returncode, _last_line(self._log.read_text())
                raise PodFailed(f"{self.container}: exit code {code}: {line}")
            if self.probe(name):
                return
            time.sleep(_LOOK_S)
        raise PodFailed(f"{self.container}: {name} did not succeed")

    def probe(self, name: str) -> bool:
        """One try."""
        probe = self.container.probes[name]
        port = self._node.port(self.container.pod.name, probe["grpc"]["port"])
        request = health_pb2.HealthCheckRequest(service=probe["grpc"]["service"])
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(
                    request, timeout=probe["timeoutSeconds"]
                )
            except grpc.RpcError:
                return False
        return answer.status == health_pb2.HealthCheckResponse.SERVING


def stop(*pods: Running) -> dict[str, tuple[int, float]]:
    """SIGTERM to all; exit code and seconds of each. Raises PodFailed past a grace period."""
    started_s = time.monotonic()
    for running in pods:
        running.process.terminate()
    ended = {}
    for running in pods:
        pod = running.container.pod
        left_s = pod.spec["terminationGracePeriodSeconds"] - (time.monotonic() - started_s)
        try:
            code = running.process.wait(timeout=max(left_s, 0.1))
        except subprocess.TimeoutExpired:
            raise PodFailed(f"{pod.name}: outlived its grace period") from None
        ended[pod.name] = code, time.monotonic() - started_s
    return ended


def _image(container: Container) -> dict[str, str]:
    """The variables of the container's image, for images of glimpse's own."""
    name = re.search(r"glimpse-(\w+)[:@]", container.spec["image"])
    if name is None:
        return {}
    path = ROOT / "deploy" / "docker" / f"{name[1]}.Dockerfile"
    return dockerfile.read(path)[-1].environment


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")
