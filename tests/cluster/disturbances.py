"""What happens to pods in a cluster's life, done by kubectl: replaced, evicted, scaled, killed."""

from __future__ import annotations

import json
from typing import Any

from tests.cluster.kubectl import Kubectl
from tests.cluster.nodes import known
from tests.waiting import wait_until

_NAMESPACE = "--namespace=glimpse"
_PATIENCE_S = 300.0


class Disturbances:
    """Each method does one thing to one service, and returns once its pods are as before."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl

    def roll_out(self, name: str) -> None:
        """All pods are replaced, as the Deployment says."""
        count = len(self._pods(name))
        self._kubectl("rollout", "restart", f"deployment/{name}", _NAMESPACE)
        status = ("rollout", "status", f"deployment/{name}", _NAMESPACE, "--timeout=10m")
        self._kubectl(*status, timeout_s=600)
        self.await_settled(name, count)

    def evict(self, name: str) -> None:
        """One pod is evicted, as all pods of a node are one after the other when it is drained."""
        pods = self._pods(name)
        metadata = {"name": pods[0]["metadata"]["name"], "namespace": "glimpse"}
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
        path = f"/api/v1/namespaces/glimpse/pods/{metadata['name']}/eviction"
        self._kubectl("create", f"--raw={path}", "-f", "-", given=json.dumps(eviction))
        self.await_settled(name, len(pods))

    def scale_down(self, name: str) -> None:
        """One pod more than there were, and then one less again."""
        count = len(self._pods(name))
        for number in (count + 1, count):
            self._kubectl("scale", f"deployment/{name}", _NAMESPACE, f"--replicas={number}")
            self.await_settled(name, number)

    def kill(self, name: str) -> None:
        """A pod is gone without a farewell (SIGKILL, two seconds after SIGTERM), and replaced."""
        pods = self._pods(name)
        at_once = ("--grace-period=0", "--force")
        self._kubectl("delete", "pod", pods[0]["metadata"]["name"], _NAMESPACE, *at_once)
        self.await_settled(name, len(pods))

    def await_settled(self, name: str, count: int) -> None:
        """Returns once so many pods are there, all of them ready."""
        wait_until(
            lambda: [_is_ready(pod) for pod in self._pods(name)] == [True] * count,
            f"{name} has not {count} ready pods",
            timeout_s=_PATIENCE_S,
            look_s=1.0,  # each look is a process
        )

    def _pods(self, name: str) -> list[dict[str, Any]]:
        """Those that are being deleted among them."""
        label = f"--selector=app.kubernetes.io/name={name}"
        return self._kubectl.get("pods", _NAMESPACE, label)["items"]


def _is_ready(pod: dict[str, Any]) -> bool:
    return known(pod).is_ready and "deletionTimestamp" not in pod["metadata"]
