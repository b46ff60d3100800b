"""One service's process again and again, within milliseconds: imported once, forked at each start.

`python -m tests.first_day.zygote SERVICE` reads a line of JSON for each thing to do, and answers it
with a line: {"start": environment, "log": path} with a process id, {"await": process id} with the
exit code. Its processes end with it.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from typing import Any, NoReturn


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
