"""The whole of glimpse on one machine: four processes, started, watched and stopped in order.

    Milvus Lite ◄── indexer ──► encoder ◄── query ──► Milvus Lite

The thread that calls a Stack owns it. Everything is started at once, since each service waits for
those it needs; it is stopped in the order query, indexer, encoder, Milvus, so that nobody loses
what it stands on. If the calling process is killed, its Guard stops them instead. Commands and
their output are not its job.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from glimpse.cli.console import CommandError
from glimpse.cli.local.data_folder import DataFolder
from glimpse.cli.local.process import Guard, Process
from glimpse.cli.local.process_group import OWN_GROUP
from glimpse.cli.ports import HOST, Ports
from glimpse.cli.probes import is_milvus_ready, is_serving

_LOOK_S = 0.1
_TELL_S = 10.0  # between what is told about a start that takes long
_REFUSED = 2  # how services end that cannot start; their last line says why
_MERGED = ("ENCODER_MODEL", "PYTHONPATH")  # what the environment says of them counts
_CHECKOUT = Path(__file__).resolve().parents[3]
"""The services are those that lie beside this package, wherever they are started."""


class StackError(CommandError):
    """The stack cannot start, or lost a process; the message is for people."""


@dataclass(frozen=True)
class StackOptions:
    """How to run the stack. `data` holds Milvus' files, logs, lock and addresses; `model` is a
    name or path as in ENCODER_MODEL; with `milvus_uri` an existing server is used instead of
    Milvus Lite; `environment` is added to that of the services; `tell` gets a line now and then
    while a start takes long."""

    data: Path
    model: str = "demo"
    milvus_uri: str | None = None
    ports: Ports = field(default_factory=Ports)
    environment: Mapping[str, str] = field(default_factory=dict)
    start_timeout_s: float = 120.0
    grace_s: float = 15.0
    tell: Callable[[str], None] = lambda _: None


class Stack:
    """The running processes; a context manager that starts and stops them all."""

    def __init__(self, options: StackOptions) -> None:
        self.options = options
        self._folder = DataFolder(options.data)
        ports = options.ports
        self.milvus_uri = options.milvus_uri or f"http://{HOST}:{ports.milvus}"
        self.addresses = {
            "milvus": self.milvus_uri,
            "encoder": f"{HOST}:{ports.encoder}",
            "indexer": f"{HOST}:{ports.indexer}",
            "query": f"{HOST}:{ports.query}",
        }
        self.processes = {process.name: process for process in self._make_processes()}
        self.stop_requested = threading.Event()
        """Set from anywhere, a signal handler included, it ends a start that is under way."""
        self._guard: Guard | None = None

    @property
    def query(self) -> str:
        """The query service's address."""
        return self.addresses["query"]

    @property
    def indexer(self) -> str:
        """The indexer's address."""
        return self.addresses["indexer"]

    @property
    def _lite_dir(self) -> Path:
        return self.options.data / "milvus"

    @property
    def environment(self) -> dict[str, str]:
        """What the services get: their settings, and all that this process has."""
        return os.environ | self._settings()

    def overruled(self) -> list[str]:
        """Settings in this process's environment that the stack has others for."""
        ours = self._settings().items()
        differ = [name for name, value in ours if os.environ.get(name, value) != value]
        return [name for name in differ if name not in _MERGED]

    def free_bytes(self) -> int:
        """What is left of the disk that the data folder is on."""
        return self._folder.free_bytes()

    def __enter__(self) -> Stack:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Starts everything and waits until all are healthy; stops everything on a failure.

        Raises StackError, and CommandError where the folder cannot be had.
        """
        self._check_installed()
        try:
            lock_fd = self._folder.lock(self.addresses)
            if taken := self._taken_ports():
                raise StackError(
                    f"port {taken[0]} is in use; stop the process there, or choose others "
                    "with --ports (0: free ones)"
                )
            self._guard = Guard(lock_fd)
            self._fetch_weights(self._guard)
            self._start_and_wait(*self.processes)
            self._folder.publish()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops everything, in order; nothing to do when it is stopped."""
        self._folder.withdraw()
        for process in reversed(self.processes.values()):
            process.stop(self.options.grace_s)
        if self._guard is not None:
            self._guard.close()
            self._guard = None
        self._folder.release()

    def send_kill(self) -> None:
        """Sends SIGKILL to everything, for a stop() under way that takes too long."""
        for process in self.processes.values():
            process.send_kill()

    def restart(self, *names: str) -> None:
        """Stops processes, in order, and starts them again, all at once; no names: all of them."""
        chosen = [name for name in self.processes if name in names or not names]
        for name in reversed(chosen):
            self.processes[name].stop(self.options.grace_s)
        self._start_and_wait(*chosen)

    def check(self) -> None:
        """Raises StackError, with what it wrote last, when a process has ended; keeps the logs of
        the others from growing for ever."""
        for process in self.processes.values():
            process.shorten_log()
            if process.is_running:
                continue
            lines = process.last_lines()
            if process.exit_code == _REFUSED and lines:
                raise StackError(lines[-1])
            raise StackError(
                f"{process.name} {process.how_it_ended()}; its log is {process.log_path}"
                + "".join(["; it ends with:", *(f"\n  {line}" for line in lines)] if lines else [])
            )

    def _make_processes(self) -> list[Process]:
        options, ports = self.options, self.options.ports
        logs = self._folder.logs
        processes = []
        if options.milvus_uri is None:
            command = [sys.executable, "-m", "glimpse.cli.local.lite_server", "server"]
            command += ["--host", HOST, "--port", str(ports.milvus)]
            command += ["--data-dir", str(self._lite_dir)]
            # Of all signals, Milvus Lite stops cleanly on SIGINT only.
            processes.append(
                Process("milvus", command, {}, logs / "milvus.log", stop_signal=signal.SIGINT)
            )
        for name in ("encoder", "indexer", "query"):
            command = [sys.executable, "-m", f"services.{name}"]
            environment = self._settings()
            processes.append(Process(name, command, environment, logs / f"{name}.log"))
        return processes

    def _settings(self) -> dict[str, str]:
        """The services' settings, and how they are run."""
        ports = self.options.ports
        return {
            # People read these logs; whoever wants them for machines says so in the environment.
            **{
                name: os.environ.get(name, "text")
                for name in ("ENCODER_LOG_FORMAT", "INDEXER_LOG_FORMAT", "QUERY_LOG_FORMAT")
            },
            "ENCODER_LISTEN": self.addresses["encoder"],
            "ENCODER_METRICS_LISTEN": f"{HOST}:{ports.encoder_metrics}",
            "ENCODER_MODEL": self.options.model,
            # The model's threads shall soon sleep while they wait for each other: everything shares
            # the processors here, and one that spins keeps them from those it waits for.
            "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "3000"),
            "INDEXER_LISTEN": self.addresses["indexer"],
            "INDEXER_METRICS_LISTEN": f"{HOST}:{ports.indexer_metrics}",
            "INDEXER_ENCODER": self.addresses["encoder"],
            "INDEXER_MILVUS_URI": self.milvus_uri,
            "QUERY_LISTEN": self.addresses["query"],
            "QUERY_METRICS_LISTEN": f"{HOST}:{ports.query_metrics}",
            "QUERY_ENCODER": self.addresses["encoder"],
            "QUERY_MILVUS_URI": self.milvus_uri,
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(_CHECKOUT), os.environ.get("PYTHONPATH")])
            ),
            **self._lite_settings(),
            **self.options.environment,
        }

    def _lite_settings(self) -> dict[str, str]:
        """Those for Milvus Lite's data, which lies on this machine."""
        if self.options.milvus_uri is not None:
            return {}
        return {"INDEXER_MILVUS_LITE_DIR": str(self._lite_dir)}

    def _check_installed(self) -> None:
        needed = {"milvus": "milvus_lite", "encoder": "torch"}
        for name, package in needed.items():
            if name in self.processes and importlib.util.find_spec(package) is None:
                raise StackError(
                    f"{name} needs {package}, which is not installed here; `make .venv/.stack` in "
                    f"{_CHECKOUT} installs all that is needed, and .venv/bin/glimpse runs it"
                )

    def _taken_ports(self) -> list[int]:
        ports = self.options.ports
        ours = [] if self.options.milvus_uri is None else [ports.milvus]
        return [port for port in ports.taken() if port not in ours]

    def _fetch_weights(self, guard: Guard) -> None:
        """Has official weights fetched in the foreground, where the progress can be seen."""
        if self.options.model == "demo" or os.path.isfile(self.options.model):
            return
        fetch = subprocess.Popen(
            [sys.executable, "-m", "services.encoder.fetch"],
            env=self.environment,
            cwd=self.options.data,
            stdout=subprocess.PIPE,
            text=True,
            **OWN_GROUP,
        )
        guard.watch(fetch.pid, signal.SIGTERM)
        try:
            while fetch.poll() is None and not self.stop_requested.wait(_LOOK_S):
                pass
        finally:
            fetch.kill()
            answer, _ = fetch.communicate()
            guard.forget(fetch.pid)
        if fetch.returncode != 0:
            raise StackError(answer.strip() or f"{self.options.model} was not fetched")

    def _start_and_wait(self, *names: str) -> None:
        if self._guard is None:
            raise StackError("the stack is not running")
        for name in names:
            try:
                self.processes[name].start(self._guard)
            except OSError as error:
                why = (error.strerror or str(error)).lower()
                raise StackError(f"{name} cannot be started: {why}") from error
        deadline_s = time.monotonic() + self.options.start_timeout_s
        for name in self.processes:
            self._wait_healthy(name, deadline_s)

    def _wait_healthy(self, name: str, deadline_s: float) -> None:
        probe = is_milvus_ready if name == "milvus" else is_serving
        process, tell_at_s = self.processes[name], time.monotonic() + _TELL_S
        while not probe(self.addresses[name]):
            self.check()
            if self.stop_requested.wait(_LOOK_S):
                raise StackError("stopped before everything was ready")
            now_s = time.monotonic()
            if now_s > deadline_s:
                raise StackError(
                    f"{name} at {self.addresses[name]} was not ready within "
                    f"{self.options.start_timeout_s:.0f} s; its log is {process.log_path}"
                )
            if now_s > tell_at_s:
                tell_at_s = now_s + _TELL_S
                self.options.tell("\n  ".join([f"Waiting for {name} ...", *process.last_lines(1)]))
