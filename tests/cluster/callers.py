"""The pod with callers, caller.py: started, stopped, and what it wrote."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster import caller, intruder
from tests.cluster.claims import OURS
from tests.cluster.kubectl import Kubectl, Refused
from tests.waiting import wait_until

NAMESPACE = "shop"

_HERE = f"--namespace={NAMESPACE}"
_MANIFEST = Path(__file__).parent / "manifests" / "caller.yaml"
_FIRST = 20  # searches that the callers have made before anything is disturbed
_SHOWN_PAUSE_S = 2.0


@dataclass(frozen=True)
class Call:
    """When a search began, by the clock, how long it took, and its caller's error: "" for hits.

    Of what it took, `service_s` passed in the query service. `machine_late_s`: how much longer than
    it should the caller's pause took before, for want of a processor.
    """

    begun_s: float
    took_s: float
    error: str = ""
    caller: str = ""
    service_s: float = 0.0
    machine_late_s: float = 0.0

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

    def make_place(self) -> None:
        """Their namespace, empty, from which they may index; whether they may search is next."""
        self.remove()
        self._kubectl("create", "namespace", NAMESPACE)
        labels = ("glimpse/may-index=true", OURS)
        self._kubectl("label", "namespace", NAMESPACE, *labels)

    def start(self) -> None:
        """Returns once they search."""
        files = (f"--from-file={module.__file__}" for module in (caller, intruder))
        self._kubectl("create", "configmap", "caller", _HERE, *files)
        self._kubectl("apply", "-f", str(_MANIFEST))
        wait_until(self._searches, "the callers find nothing", 300, _SHOWN_PAUSE_S)

    def _searches(self) -> bool:
        """Whether searches succeed: the first ones come while connections are made."""
        calls = _calls(self._written())
        return len(calls) > _FIRST and not any(call.error for call in calls[-_FIRST:])

    def _written(self) -> list[dict[str, Any]]:
        """Raises RuntimeError with everything, if it has failed."""
        phase = self._kubectl.get("pod/caller", _HERE)["status"]["phase"]
        if phase == "Pending":
            return []
        log = self._kubectl("logs", "caller", _HERE)
        if phase == "Failed":
            raise RuntimeError(f"the callers' pod has failed: {log[-10_000:]}")
        return [json.loads(line) for line in log.splitlines() if line.startswith("{")]

    def stop(self) -> None:
        self._kubectl("exec", "caller", _HERE, "--", "touch", str(caller.STOP))
        done = "--for=jsonpath={.status.phase}=Succeeded"
        try:
            self._kubectl("wait", "pod/caller", _HERE, done, "--timeout=5m", timeout_s=360)
        except Refused:
            self._written()  # raises what it failed at
            raise
        written = self._written()
        self.calls = _calls(written)
        (pictures,) = (line for line in written if "acknowledged" in line)
        self.acknowledged, self.wrong_pictures = pictures["acknowledged"], pictures["wrong"]

    def remove(self) -> None:
        """With its namespace."""
        self._kubectl("delete", "--ignore-not-found", "namespace", NAMESPACE)

    def between(self, begun_s: float, ended_s: float) -> list[Call]:
        """Calls that ended between two moments."""
        return [call for call in self.calls if begun_s <= call.ended_s < ended_s]


def _calls(written: list[dict[str, Any]]) -> list[Call]:
    return [Call(**line) for line in written if "took_s" in line]
