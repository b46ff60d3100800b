"""Processes that tests stop, kill and freeze, Milvus Lite's server and a Milvus server among them.

Milvus Lite comes with the development environment. The Milvus server is the package `milvus`, which
needs an environment of its own: `make milvus-server` makes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from glimpse.cli.local.process import let_interrupts_through
from glimpse.cli.local.process_group import OWN_GROUP
from glimpse.cli.ports import free_ports
from tests.waiting import wait_until

_MILVUS = Path(__file__).resolve().parent.parent / "build" / "milvus-server"
_UNPACKED = _MILVUS / "unpacked"
"""The server itself, which takes some seconds to unpack: once for all of them."""
_STOP_S = 30.0
_MILVUS_PORTS = (
    "proxy_port",
    "proxy_internal_port",
    "root_coord_port",
    "query_coord_port",
    "query_node_port",
    "index_coord_port",
    "index_node_port",
    "data_coord_port",
    "data_node_port",
)
# Writes a server's configuration below a directory, and unpacks the server where it is not yet. The
# package would start it as well, but on other ports after a restart, and as a child that outlives
# its parent.
_PREPARE = """
import fcntl, json, sys, milvus
server = milvus.MilvusServer()
server.set_base_dir(sys.argv[1])
for name, port in json.loads(sys.argv[2]).items():
    server.config.set(name, port)
server.config.resolve()
with open(sys.argv[3] + ".lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    milvus._initialize_data_files(sys.argv[3])
"""


def has_milvus_server() -> bool:
    """Whether `make milvus-server` has succeeded here."""
    return (_MILVUS / ".done").exists()


def fresh_runs(
    name: str, kinds: Sequence[str], seed: int | None
) -> Iterator[tuple[str, int, Path]]:
    """For each kind of store that is here: its name, a seed, and a folder of build/`name` that does
    not exist; prints the seed, or that the server is not here."""
    for kind in kinds:
        if kind == "milvus" and not has_milvus_server():
            print("milvus: there is no Milvus server here: run `make milvus-server`")
            continue
        chosen = random.randrange(2**32) if seed is None else seed
        print(f"{kind}: seed {chosen} ...", flush=True)
        folder = Path("build", name, kind).absolute()
        shutil.rmtree(folder, ignore_errors=True)
        yield kind, chosen, folder


class Process:
    """A process group that can be stopped, killed, frozen, thawed and started again."""

    def __init__(
        self,
        arguments: list[str],
        directory: Path,
        stop_signal: signal.Signals,
        environment: dict[str, str] | None = None,
    ) -> None:
        self._arguments = arguments
        self.directory = directory
        self._stop_signal = stop_signal
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process' id, also that of its group."""
        assert self._process is not None, "was never started"
        return self._process.pid

    def start(self) -> None:
        let_interrupts_through()
        with (self.directory / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments,
                cwd=self.directory,
                env={**os.environ, **self._environment},
                stdout=log,
                stderr=log,
                **OWN_GROUP,
            )

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """As an operator would; forcibly if that takes too long."""
        self.thaw()
        self._signal(self._stop_signal)
        self._wait_for_end(_STOP_S)
        self.kill()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        self._wait_for_end(_STOP_S)

    def freeze(self) -> None:
        """Returns once it stands still: until one of its threads has run, the others work on."""
        self._signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def check(self) -> None:
        """Raises RuntimeError if it has ended by itself, with the last line of its log."""
        if not self.is_running:
            lines = (self.directory / "log.txt").read_text(errors="replace").splitlines()
            raise RuntimeError(f"{self._arguments[0]} has ended: {lines[-1] if lines else ''}")

    def _signal(self, number: int) -> bool:
        """To the whole group; false if nobody is left in it."""
        assert self._process is not None, "was never started"
        self._process.poll()  # reaps the leader
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return False
        return True

    def _wait_for_end(self, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not self._signal(0), "it goes on running", timeout_s)


class MilvusLite(Process):
    """A Milvus Lite server over a directory of its own."""

    def __init__(self, directory: Path) -> None:
        (port,) = free_ports(1)
        self.uri = f"http://127.0.0.1:{port}"
        directory.mkdir(parents=True, exist_ok=True)
        program = [sys.executable, "-m", "glimpse.cli.local.lite_server", "server"]
        where = ["--data-dir", str(directory / "data"), "--host", "127.0.0.1", "--port", str(port)]
        super().__init__([*program, *where], directory, signal.SIGINT)


class MilvusServer(Process):
    """A Milvus server with everything it needs, over a directory and on ports of its own.

    `tls` holds the PEM files of its certificate, its key, and the authority of those whom it lets
    in; `settings` are Milvus' own, by their names in its environment.
    """

    def __init__(
        self,
        directory: Path,
        tls: tuple[Path, Path, Path] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        *ports, metrics_port, etcd_port, peer_port = free_ports(len(_MILVUS_PORTS) + 3)
        named_ports = dict(zip(_MILVUS_PORTS, ports, strict=True))
        scheme = "https" if tls else "http"
        self.uri = f"{scheme}://127.0.0.1:{named_ports['proxy_port']}"
        directory.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [
                *(_MILVUS / "bin" / "python", "-c", _PREPARE),
                *(directory, json.dumps(named_ports), _UNPACKED),
            ],
            check=True,
        )
        etcd = directory / "etcd.json"
        etcd.write_text(json.dumps(_etcd(etcd_port, peer_port)))
        environment = {
            "DEPLOY_MODE": "STANDALONE",
            "METRICS_PORT": str(metrics_port),
            "MILVUS_RUN_DIR": str(directory / "run"),
            "LD_LIBRARY_PATH": str(_UNPACKED / "bin"),
            "ETCD_CONFIG_PATH": str(etcd),
            # By default it waits half an hour for somebody to take its segments over.
            "COMMON_GRACEFULSTOPTIMEOUT": "1",
            "QUERYNODE_GRACEFULSTOPTIMEOUT": "1",
            # After a restart it waits until the sessions of its former life have run out.
            "COMMON_SESSION_TTL": "10",
        }
        if tls:
            paths = zip(("SERVERPEMPATH", "SERVERKEYPATH", "CAPEMPATH"), tls, strict=True)
            environment |= {f"TLS_{name}": str(path) for name, path in paths}
            # Both sides show certificates; REST cannot share the port then.
            environment |= {"COMMON_SECURITY_TLSMODE": "2", "PROXY_HTTP_ENABLED": "false"}
        environment |= settings or {}
        program = str(_UNPACKED / "bin" / "milvus")
        super().__init__([program, "run", "standalone"], directory, signal.SIGTERM, environment)


def _etcd(port: int, peer_port: int) -> dict[str, str]:
    """Where the etcd within a Milvus server listens; nobody calls it there."""
    own, peers = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
    return {
        "listen-client-urls": own,
        "advertise-client-urls": own,
        "listen-peer-urls": peers,
        "initial-advertise-peer-urls": peers,
        "initial-cluster": f"default={peers}",
    }
