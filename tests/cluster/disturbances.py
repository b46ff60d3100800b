"""What happens to pods in a cluster's life, done by kubectl: replaced, evicted, scaled, killed."""

from __future__ import annotations

import json
from typing import Any

from tests.cluster.kubectl import Kubectl, Refused
from tests.cluster.nodes import known
from tests.waiting import wait_until

NAMESPACE = "--namespace=glimpse"
PATIENCE_S = 300.0
LOOK_S = 2.0  # each look is a process
_BUDGET_IN_THE_WAY = "violate the pod's disruption budget"


class Disturbances:
    """Each method does one thing to one service, and returns once as many pods are ready as are to
    be: others may still be stopping."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl

    def roll_out(self, name: str) -> None:
        """All pods are replaced, as the Deployment says."""
        self._kubectl("rollout", "restart", f"deployment/{name}", NAMESPACE)
        self._await_rolled_out(name)

    def drain(self, name: str) -> None:
        """All pods are evicted, as those of a node that is drained: as soon as the budget lets."""
        for pod in self.standing(name):
            wait_until(
                lambda pod=pod["metadata"]["name"]: self._evicts(pod),
                f"the budget of {name} lets no pod go",
                timeout_s=PATIENCE_S,
                look_s=LOOK_S,
            )
        self.await_ready(name)

    def _evicts(self, pod: str) -> bool:
        metadata = {"name": pod, "namespace": "glimpse"}
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
        path = f"/api/v1/namespaces/glimpse/pods/{pod}/eviction"
        try:
            self._kubectl("create", f"--raw={path}", "-f", "-", given=json.dumps(eviction))
        except Refused as error:
            if _BUDGET_IN_THE_WAY not in str(error):
                raise
            return False
        return True

    def scale_down(self, name: str) -> None:
        """One pod more than there were, and then one less again."""
        count = self._look(name)[0]
        for number in (count + 1, count):
            self._kubectl("scale", f"deployment/{name}", NAMESPACE, f"--replicas={number}")
            self.await_ready(name)

    def kill(self, name: str) -> None:
        """A pod is gone by force (SIGTERM, and SIGKILL two seconds later), and replaced."""
        pod = self.standing(name)[0]["metadata"]["name"]
        self._kubectl("delete", "pod", pod, NAMESPACE, "--grace-period=0", "--force")
        self.await_ready(name)

    def weaken(self, name: str) -> None:
        """Has its pods stop as if there were no DNS, which callers are known to suffer from."""
        drain = {"name": f"{name.upper()}_DRAIN_S", "value": "5"}
        pod = {"spec": {"containers": [{"name": "service", "env": [drain]}]}}
        patch = json.dumps({"spec": {"minReadySeconds": 0, "template": pod}})
        self._kubectl("patch", f"deployment/{name}", NAMESPACE, "--patch", patch)
        self._await_rolled_out(name)
        self.await_settled(name)

    def standing(self, name: str) -> list[dict[str, Any]]:
        """Its pods, without those that are being deleted."""
        return _standing(self._look(name)[1])

    def await_ready(self, name: str) -> None:
        """Returns once as many pods as there are to be are ready, and no other is to stay."""

        def is_ready() -> bool:
            count, pods = self._look(name)
            return [known(pod).is_ready for pod in _standing(pods)] == [True] * count

        wait_until(is_ready, f"not all pods of {name} are ready", PATIENCE_S, LOOK_S)

    def await_settled(self, name: str) -> None:
        """The same, and no pod is stopping."""
        self.await_ready(name)

        def is_settled() -> bool:
            count, pods = self._look(name)
            return len(pods) == count

        wait_until(is_settled, f"pods of {name} do not stop", PATIENCE_S, LOOK_S)

    def _await_rolled_out(self, name: str) -> None:
        status = ("rollout", "status", f"deployment/{name}", NAMESPACE, "--timeout=10m")
        self._kubectl(*status, timeout_s=620)

    def _look(self, name: str) -> tuple[int, list[dict[str, Any]]]:
        """How many pods there are to be, and those that are there."""
        label = f"--selector=app.kubernetes.io/name={name}"
        items = self._kubectl.get("deployments,pods", NAMESPACE, label)["items"]
        (deployment,) = (item for item in items if item["kind"] == "Deployment")
        return deployment["spec"]["replicas"], [item for item in items if item["kind"] == "Pod"]


def _standing(pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that are not being deleted."""
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
