"""What only the machine that a node runs on can do to a pod: send its process a signal."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from tests.cluster.disturbances import LOOK_S, NAMESPACE, PATIENCE_S, Disturbances
from tests.waiting import wait_until


class OwnDisturbances(Disturbances):
    """On a node whose processes are seen from here."""

    def kill(self, name: str) -> None:
        """SIGKILL for the service in the pod that was killed least often; it is started again."""
        pod = min(self.standing(name), key=_restarts)
        os.kill(_process_of(pod["metadata"]["uid"], f"services.{name}"), signal.SIGKILL)
        was, path = _restarts(pod), f"pod/{pod['metadata']['name']}"
        wait_until(
            lambda: _restarts(self._kubectl.get(path, NAMESPACE)) > was,
            f"{path} is not started again",
            PATIENCE_S,
            LOOK_S,
        )
        self.await_ready(name)


def _restarts(pod: dict[str, Any]) -> int:
    return sum(each["restartCount"] for each in pod["status"]["containerStatuses"])


def _process_of(uid: str, module: str) -> int:
    """Its number: the one in the pod's control group that runs a module."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            group = (folder / "cgroup").read_text()
        except OSError:  # it has ended
            continue
        if module.encode() in words and uid in group:
            return int(folder.name)
    raise LookupError(f"no process of pod {uid} runs {module}")
