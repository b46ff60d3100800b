"""One service's process again and again, within milliseconds: imported once, forked at each start.

`python -m tests.zygote SERVICE` reads a line of JSON for each thing to do, and answers it with a
line: {"start": environment, "log": path} with a process id, {"await": process id} with the exit
code. Its processes end with it. Zygote is the side of who asks.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn


class Zygote:
    """A service that is imported already; a context manager that ends all processes of it."""

    def __init__(self, service: str) -> None:
        self.service = service

    def __enter__(self) -> Zygote:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name, self.service],
            # Else gRPC starts its threads again in each forked process.
            env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def start(self, environment: Mapping[str, str], log: Path) -> int:
        """Starts a process; what it writes goes to the end of the file. Returns its id, at once."""
        return self._ask({"start": environment, "log": str(log)})

    def await_end(self, pid: int) -> int:
        """The exit code of one of its processes."""
        return self._ask({"await": pid})

    def _ask(self, order: Mapping[str, object]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def serve(main: Any) -> None:
    """Until standard input ends."""
    running: set[int] = set()
    for line in sys.stdin:
        order = json.loads(line)
        if "start" in order:
            answer = os.fork()
            if not answer:
                become(main, order["start"], order["log"])
            running.add(answer)
        else:
            _, status = os.waitpid(order["await"], 0)
            running.discard(order["await"])
            answer = os.waitstatus_to_exitcode(status)
        print(answer, flush=True)
    for pid in running:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def become(main: Any, environment: dict[str, str], log: str) -> NoReturn:
    """Makes this process the service; what it writes goes to the end of the file `log`."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.close(output)
    os.close(0)
    os.open(os.devnull, os.O_RDONLY)
    os.environ.update(environment)
    sys.argv = sys.argv[:1]  # settings take no arguments
    try:
        os._exit(main())
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 1)


if __name__ == "__main__":
    service = sys.argv[1]
    if service == "encoder":
        importlib.import_module("services.encoder.model")  # which it does not import before it runs
    serve(importlib.import_module(f"services.{service}.main").main)
