"""One deployment at a time on a control plane with simulated nodes, and what became of its pods."""

from __future__ import annotations

import subprocess

from tests.cluster.control_plane import ControlPlane
from tests.cluster.nodes import Imaginary, known
from tests.k8s.manifests import K8S
from tests.waiting import wait_until

PRODUCTION = "overlays/production"

_IN_FOREGROUND = ("--namespace=glimpse", "--cascade=foreground")


class Cluster:
    """What is deployed on it, and what became of that."""

    def __init__(self, plane: ControlPlane, imaginary: Imaginary) -> None:
        self.plane, self.imaginary = plane, imaginary
        self.kubectl = plane.kubectl
        self._deployed: str | None = None

    def deploy(self, overlay: str) -> None:
        """Has this overlay alone; does nothing where that is so."""
        if self._deployed != overlay:
            self.clear()
            self.apply(overlay)

    def apply(self, folder: str, *options: str) -> list[str]:
        """What kubectl says of each object; a warning is a failure."""
        if not folder.startswith("jobs/"):
            self._deployed = folder
        said = self.kubectl("--warnings-as-errors", "apply", *options, "-k", str(K8S / folder))
        return said.splitlines()

    def clear(self) -> None:
        """Removes what runs, and its claims, and offers volumes for what comes.

        All else stays for the next overlay to overwrite: a namespace takes ten seconds to go.
        """
        if self._deployed is not None:
            for kinds in ("deployments,jobs,hpa,pdb", "persistentvolumeclaims"):
                self.kubectl("delete", kinds, "--all", *_IN_FOREGROUND)
            self._deployed = None
        self.plane.offer_volumes(2)

    def pods(self, name: str) -> list[dict]:
        """An application's pods, without those that are being deleted."""
        label = f"labelSelector=app.kubernetes.io/name={name}"
        found = self.plane.api.ask("GET", f"api/v1/namespaces/glimpse/pods?{label}")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def ready(self, name: str) -> list[dict]:
        return [pod for pod in self.pods(name) if known(pod).is_ready]

    def await_ready(self, **counts: int) -> None:
        """Returns once so many pods are there, and ready."""
        for name, count in counts.items():
            wait_until(
                lambda name=name, count=count: (
                    len(self.ready(name)) == len(self.pods(name)) == count
                ),
                f"{name} has not {count} ready pods",
                timeout_s=60,
            )

    def move(self, name: str, node: str) -> None:
        """Has all pods of an application made anew on one node."""
        others = [each for each in ("a1", "b1", "c1") if each != node]
        label = f"--selector=app.kubernetes.io/name={name}"
        count = len(self.pods(name))
        self.kubectl("cordon", *others)
        self.kubectl("delete", "pods", "--namespace=glimpse", label)
        self.await_ready(**{name: count})
        self.kubectl("uncordon", *others)

    def drain(self, node: str) -> subprocess.Popen[str]:
        """As for maintenance; it takes until the budgets let it."""
        options = ("--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s")
        return self.kubectl.popen("drain", node, *options)
