"""Simulated nodes: they tell the apiserver of their pods what a kubelet would.

What runs the pods: nothing does (Imaginary), or something else of the same shape.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any, Protocol

from tests.cluster.api import Api
from tests.cluster.control_plane import ControlPlane
from tests.waiting import wait_until

_LOOK_S = 0.1
_ROOM = {"cpu": "32", "memory": "128Gi", "pods": "110", "ephemeral-storage": "100Gi"}
# One GPU, by each of the names under which device plugins offer one.
_GPU = {"nvidia.com/gpu": "1", "nvidia.com/gpu.shared": "2", "nvidia.com/mig-1g.10gb": "2"}


@dataclass(frozen=True)
class Machine:
    """A node to be simulated."""

    name: str
    zone: str
    has_gpu: bool = False

    def node(self) -> dict[str, Any]:
        """A GPU's node is labelled and tainted, as GPU operator does it."""
        labels = {"kubernetes.io/hostname": self.name, "topology.kubernetes.io/zone": self.zone}
        spec: dict[str, Any] = {}
        if self.has_gpu:
            labels["nvidia.com/gpu.present"] = "true"
            spec = {"taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]}
        return {"kind": "Node", "metadata": {"name": self.name, "labels": labels}, "spec": spec}

    def status(self) -> dict[str, Any]:
        room = {**_ROOM, **(_GPU if self.has_gpu else {})}
        ready = {"type": "Ready", "status": "True", "reason": "Simulated"}
        return {"status": {"capacity": room, "allocatable": room, "conditions": [ready]}}


MACHINES = (
    Machine("a1", "a"),
    Machine("b1", "b"),
    Machine("c1", "c"),
    Machine("gpu", "a", has_gpu=True),
)


@dataclass(frozen=True)
class State:
    """What a pod has come to: its phase, and whether it takes calls."""

    phase: str
    is_ready: bool = False


class Runtime(Protocol):
    """What runs the pods of all nodes; called by one thread, and never waits."""

    def state(self, pod: Mapping[str, Any]) -> State:
        """Starts the pod if it is new."""
        ...

    def has_ended(self, pod: Mapping[str, Any]) -> bool:
        """Has it end, if it does not yet."""
        ...

    def keep(self, uids: Set[str]) -> None:
        """All other pods were removed by force."""
        ...


class Imaginary:
    """Nothing runs: each pod is ready, or done, as soon as it is there, unless it is held."""

    def __init__(self) -> None:
        self._held: set[str] = set()

    def hold(self, name: str) -> None:
        """From now on, the application's new pods run, but become neither ready nor done."""
        self._held.add(name)

    def release(self) -> None:
        """All held pods go on."""
        self._held.clear()

    def state(self, pod: Mapping[str, Any]) -> State:
        is_served = pod["spec"]["restartPolicy"] == "Always"
        is_held = pod["metadata"]["labels"].get("app.kubernetes.io/name") in self._held
        if is_held and not known(pod).is_ready:
            return State("Running")
        return State("Running", is_ready=True) if is_served else State("Succeeded")

    def has_ended(self, pod: Mapping[str, Any]) -> bool:
        return True

    def keep(self, uids: Set[str]) -> None:
        pass


class Nodes:
    """MACHINES, in one thread that follows their pods."""

    def __init__(self, api: Api, runtime: Runtime) -> None:
        self._api, self._runtime = api, runtime
        self._stopped = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._follow, name="nodes")
        self._addresses = 0

    def start(self) -> None:
        """Returns once pods can be scheduled."""
        for machine in MACHINES:
            self._api.ask("POST", "api/v1/nodes", machine.node())
            self._api.ask("PATCH", f"api/v1/nodes/{machine.name}/status", machine.status())
        wait_until(self._are_usable, "the nodes are not taken for ready")
        self._thread.start()

    def _are_usable(self) -> bool:
        return not any(
            taint["key"].startswith("node.kubernetes.io/")
            for node in self._api.ask("GET", "api/v1/nodes")["items"]
            for taint in node["spec"].get("taints", ())
        )

    def stop(self) -> None:
        """Raises what the thread died of."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        self._runtime.keep(set())
        self._api.close()
        if self._failure is not None:
            raise self._failure

    def _follow(self) -> None:
        names = {machine.name for machine in MACHINES}
        try:
            while not self._stopped.wait(_LOOK_S):
                pods = self._api.ask("GET", "api/v1/pods")["items"]
                ours = [pod for pod in pods if pod["spec"].get("nodeName") in names]
                self._runtime.keep({pod["metadata"]["uid"] for pod in ours})
                for pod in ours:
                    self._advance(pod)
        except Exception as error:
            self._failure = error

    def _advance(self, pod: Mapping[str, Any]) -> None:
        metadata = pod["metadata"]
        path = f"api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        is_over = known(pod).phase in ("Succeeded", "Failed")
        if "deletionTimestamp" in metadata:
            if not self._runtime.has_ended(pod):
                return
            if not (is_over or pod["spec"]["restartPolicy"] == "Always"):
                self._tell(path, pod, State("Failed"))
            self._api.ask("DELETE", path, {"gracePeriodSeconds": 0})
        elif not is_over:
            state = self._runtime.state(pod)
            if state != known(pod):
                self._tell(path, pod, state)

    def _tell(self, path: str, pod: Mapping[str, Any], state: State) -> None:
        conditions = {item["type"]: item for item in pod["status"].get("conditions", ())}
        for kind in ("Initialized", "ContainersReady", "Ready"):
            conditions[kind] = {"type": kind, "status": str(state.is_ready)}
        status: dict[str, Any] = {"phase": state.phase, "conditions": list(conditions.values())}
        if "podIP" not in pod["status"]:
            address = self._new_address()
            status |= {"podIP": address, "podIPs": [{"ip": address}]}
        self._api.ask("PATCH", f"{path}/status", {"status": status})

    def _new_address(self) -> str:
        self._addresses += 1
        return f"10.250.{self._addresses // 250}.{self._addresses % 250 + 1}"


def known(pod: Mapping[str, Any]) -> State:
    """What the apiserver has been told."""
    conditions = pod["status"].get("conditions", ())
    is_ready = any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)
    return State(pod["status"]["phase"], is_ready)


@contextlib.contextmanager
def simulated(plane: ControlPlane, runtime: Runtime) -> Iterator[None]:
    """MACHINES on a control plane."""
    nodes = Nodes(plane.connect(), runtime)
    try:
        nodes.start()
        yield
    finally:
        nodes.stop()
