"""Carries out the Dockerfiles' install steps in an empty folder and starts each service from it.

    python -m deploy.docker.replay [--model FILE] [SERVICE ...]

For machines without a container engine: a dependency that is missing in an image, or too much in
it, shows here. What only an engine can tell.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.docker import dockerfile

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = "/opt/glimpse"
SERVICES = ("query", "indexer", "encoder")

# What a pod pulls before it starts, for services that have no model: nothing like torch slips in.
MAX_BYTES = 400 * 10**6
_START_TIMEOUT_S = 180.0
_STOP_TIMEOUT_S = 30.0


class Unfit(Exception):
    """What is wrong with an image."""


@dataclass(frozen=True)
class Replay:
    """One Dockerfile's image, laid out below `folder` instead of /."""

    service: str
    folder: Path

    @property
    def stages(self) -> list[dockerfile.Stage]:
        return dockerfile.read(ROOT / "deploy" / "docker" / f"{self.service}.Dockerfile")

    def here(self, text: str) -> str:
        """The text with the image's paths being those of the folder."""
        return text.replace(INSTALLED, str(self.folder) + INSTALLED)

    def build(self) -> None:
        """Carries out the build stage. Raises Unfit."""
        build, final = self.stages
        _check_python(build.image)
        base = self.folder / "base"
        venv.create(base, with_pip=True, symlinks=True)
        workdir = self.folder / "src"
        workdir.mkdir()
        (self.folder / INSTALLED[1:]).parent.mkdir(parents=True)
        environment = _clean_environment() | {"PATH": f"{base}/bin:/usr/bin:/bin"}
        for instruction in build.instructions:
            if instruction.name == "COPY":
                _copy(shlex.split(self.here(instruction.text)), workdir)
            elif instruction.name == "RUN":
                command = ["bash", "-euc", self.here(instruction.text)]
                done = subprocess.run(
                    command, cwd=workdir, env=environment, capture_output=True, text=True
                )
                if done.returncode != 0:
                    raise Unfit(f"{instruction.text}: {done.stderr.strip()}")
        copied = [item.text for item in final.instructions if item.name == "COPY"]
        if copied != [f"--from=build {INSTALLED} {INSTALLED}"]:
            raise Unfit(f"the image takes {copied}, not what was installed")
        # As in an image, what is left to start from is only what was copied into it.
        shutil.rmtree(workdir)
        shutil.rmtree(base)

    def environment(self) -> dict[str, str]:
        """The image's own variables."""
        values = {name: self.here(value) for name, value in self.stages[-1].environment.items()}
        return values | {"HOME": str(self.folder)}

    def check_size(self) -> str:
        """How much is installed, for people. Raises Unfit when it is too much."""
        installed = self.folder / INSTALLED[1:]
        size = sum(path.lstat().st_size for path in installed.rglob("*") if path.is_file())
        packages = {path.name for path in installed.glob("lib/python*/site-packages/*")}
        if self.service != "encoder":
            if "torch" in packages:
                raise Unfit("torch is installed")
            if size > MAX_BYTES:
                raise Unfit(f"{size / 1e6:,.0f} MB are installed, more than {MAX_BYTES / 1e6:,.0f}")
        return f"{size / 1e6:,.0f} MB installed"

    def check_start(self, settings: Mapping[str, str]) -> str:
        """Starts what CMD names and waits until it serves. Raises Unfit."""
        port, metrics_port = _free_ports(2)
        prefix = self.service.upper()
        environment = self.environment() | {
            f"{prefix}_LISTEN": f"127.0.0.1:{port}",
            f"{prefix}_METRICS_LISTEN": f"127.0.0.1:{metrics_port}",
            f"{prefix}_LOG_FORMAT": "text",
            **settings,
        }
        # The others become SERVING with Milvus, which is not here; that they live is what is asked.
        name = "" if self.service == "encoder" else "liveness"
        started_s = time.monotonic()
        with _running(self.stages[-1].command, environment, self.folder) as process:
            while not _serves(port, name):
                if process.poll() is not None:
                    raise Unfit(f"ended with {process.returncode} instead of starting")
                if time.monotonic() - started_s > _START_TIMEOUT_S:
                    raise Unfit(f"did not serve within {_START_TIMEOUT_S:.0f} s")
                time.sleep(0.2)
            took_s = time.monotonic() - started_s
        if process.returncode != 0:
            raise Unfit(f"ended with {process.returncode} at SIGTERM")
        return f"served after {took_s:.1f} s"

    def check_tools(self) -> None:
        """The other programs that the manifests start from this image. Raises Unfit."""
        tools = {
            "encoder": [["python", "-m", "services.encoder.fetch"]],
            "indexer": [["glimpse", "index", "--help"]],
        }
        for command in tools.get(self.service, ()):
            program = shutil.which(command[0], path=self.environment()["PATH"])
            if program is None:
                raise Unfit(f"{command[0]} is not installed")
            done = subprocess.run(
                [program, *command[1:]],
                env=self.environment() | {"ENCODER_MODEL": "demo"},
                cwd=self.folder,
                capture_output=True,
            )
            if done.returncode != 0:
                raise Unfit(f"{' '.join(command)}: {done.stderr.decode().strip()}")


def _check_python(image: str) -> None:
    found = re.fullmatch(r"python:(\d+\.\d+)\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", image)
    if found is None:
        raise Unfit(f"{image} is no pinned slim image of Python")
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if found.group(1) != here:
        print(f"  note: the image has Python {found.group(1)}, this machine {here}")


def _copy(arguments: list[str], workdir: Path) -> None:
    """COPY from the repository, as far as .dockerignore lets it."""
    *sources, target = arguments
    allowed = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    for source in sources:
        if source not in allowed:
            raise Unfit(f"COPY {source}: .dockerignore keeps it out")
        path, to = ROOT / source, workdir / target
        if path.is_dir():
            shutil.copytree(path, to, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, to)


def _clean_environment() -> dict[str, str]:
    """This process's variables without those of its own Python; proxies and caches remain."""
    unwanted = ("VIRTUAL_ENV", "PYTHON", "PYENV", "UV_PROJECT", "CONDA")
    return {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


@contextmanager
def _running(
    command: list[str], environment: Mapping[str, str], folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    program = shutil.which(command[0], path=environment["PATH"])
    if program is None:
        raise Unfit(f"{command[0]} is not installed")
    process = subprocess.Popen([program, *command[1:]], env=environment, cwd=folder)
    try:
        yield process
        process.terminate()
        process.wait(_STOP_TIMEOUT_S)
    finally:
        process.kill()
        process.wait()


def _serves(port: int, name: str) -> bool:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            request = health_pb2.HealthCheckRequest(service=name)
            response = health_pb2_grpc.HealthStub(channel).Check(request, timeout=2)
        except grpc.RpcError:
            return False
    return response.status == health_pb2.HealthCheckResponse.SERVING


def main() -> int:
    """Replays the Dockerfiles of some services; 0 when all are fit."""
    parser = argparse.ArgumentParser(prog="python -m deploy.docker.replay")
    parser.add_argument("--model", type=Path, metavar="FILE", help="instead of the bundled model")
    parser.add_argument("services", nargs="*", default=SERVICES, metavar="SERVICE")
    options = parser.parse_args()
    unfit = 0
    for service in options.services:
        settings = {"ENCODER_ACTIVATION": os.environ.get("ENCODER_ACTIVATION", "")}
        if options.model:
            settings["ENCODER_MODEL"] = str(options.model.absolute())
        with tempfile.TemporaryDirectory(prefix=f"glimpse-{service}-") as folder:
            print(f"{service}:", flush=True)
            replay = Replay(service, Path(folder))
            try:
                replay.build()
                print(f"  {replay.check_size()}", flush=True)
                replay.check_tools()
                print(f"  {replay.check_start(settings)}", flush=True)
            except Unfit as problem:
                unfit += 1
                print(f"  unfit: {problem}", file=sys.stderr)
    return 1 if unfit else 0


if __name__ == "__main__":
    sys.exit(main())
