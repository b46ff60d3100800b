"""The pod with callers, caller.py: started, stopped, and what it wrote."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster import caller
from tests.cluster.kubectl import Kubectl
from tests.waiting import wait_until

_MANIFEST = Path(__file__).parent / "manifests" / "caller.yaml"
_NAMESPACE = "--namespace=shop"
_FIRST = 20  # searches that the callers have made before anything is disturbed


@dataclass(frozen=True)
class Call:
    """When a search began, by the clock, how long it took, and its caller's error: "" for hits."""

    begun_s: float
    took_s: float
    error: str = ""

    @property
    def ended_s(self) -> float:
        return self.begun_s + self.took_s


class Callers:
    """The pod in its namespace; `calls` and the rest are there once it has been stopped."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self.calls: list[Call] = []
        self.acknowledged = 0
        self.wrong_pictures: list[str] = []

    def start(self) -> None:
        """Returns once it searches."""
        self._kubectl("apply", "-f", str(_MANIFEST))
        content = f"--from-file={caller.__file__}"
        self._kubectl("create", "configmap", "caller", _NAMESPACE, content)
        wait_until(self._searches, "the callers find nothing", look_s=1.0)

    def _searches(self) -> bool:
        """Whether searches succeed: the first ones come while connections are made."""
        calls = _calls(self._written())
        return len(calls) > _FIRST and not any(call.error for call in calls[-_FIRST:])

    def _written(self) -> list[dict[str, Any]]:
        """Raises RuntimeError with everything, if it has failed."""
        phase = self._kubectl.get("pod/caller", _NAMESPACE)["status"]["phase"]
        if phase == "Pending":
            return []
        log = self._kubectl("logs", "caller", _NAMESPACE)
        if phase == "Failed":
            raise RuntimeError(f"the callers' pod has failed: {log}")
        return [json.loads(line) for line in log.splitlines() if line.startswith("{")]

    def stop(self) -> None:
        self._kubectl("exec", "caller", _NAMESPACE, "--", "touch", str(caller.STOP))
        done = "--for=jsonpath={.status.phase}=Succeeded"
        self._kubectl("wait", "pod/caller", _NAMESPACE, done, "--timeout=5m", timeout_s=360)
        written = self._written()
        self.calls = _calls(written)
        self.acknowledged = written[-1]["acknowledged"]
        self.wrong_pictures = written[-1]["wrong"]

    def remove(self) -> None:
        """With its namespace."""
        self._kubectl("delete", "--ignore-not-found", "-f", str(_MANIFEST))

    def between(self, begun_s: float, ended_s: float) -> list[Call]:
        """Calls that ended between two moments."""
        return [call for call in self.calls if begun_s <= call.ended_s < ended_s]


def _calls(written: list[dict[str, Any]]) -> list[Call]:
    return [Call(**line) for line in written if "took_s" in line]
