"""A node that runs pods for real: containerd, kubelet, kube-proxy and what enforces policies."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.backends import Process
from tests.cluster import toolchain
from tests.cluster.control_plane import SERVICES, ControlPlane
from tests.cluster.images import PYTHON, Images
from tests.cluster.isolation import ADDRESS, NAME_SERVER
from tests.waiting import wait_until

NAME = "node1"

_PLUGINS = "/usr/lib/cni"
_PODS = "10.244.0.0/24"


class Node:
    """Processes over a folder of their own."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        """Raises Unavailable."""
        self._plane, self._folder = plane, folder
        self._images = Images().archives()
        self._socket = folder / "containerd.sock"
        self._processes: list[Process] = []

    def start(self) -> None:
        """Returns once pods can be scheduled, and have images."""
        self._start_containerd()
        config = f"--kubeconfig={self._plane.kubeconfig('admin')}"
        self._start_kubelet(config)
        self._start_network(config)
        self._plane.kubectl("wait", f"node/{NAME}", "--for=condition=Ready", "--timeout=120s")

    def _start_containerd(self) -> None:
        self._start("containerd", _program("containerd"), f"--config={self._containerd_config()}")
        ctr = (_program("ctr"), "--address", str(self._socket), "--namespace", "k8s.io")
        wait_until(lambda: _succeeds(*ctr, "version"), "containerd does not answer")
        for archive in self._images:
            load = [*ctr, "images", "import", str(archive)]
            subprocess.run(load, check=True, stdout=subprocess.DEVNULL)

    def _start_kubelet(self, config: str) -> None:
        self._start(
            "kubelet",
            str(toolchain.NODE.path("kubelet")),
            config,
            f"--config={self._kubelet_config()}",
            f"--hostname-override={NAME}",
            f"--node-ip={ADDRESS}",
        )
        nodes = ("get", "nodes", "--output=name")
        wait_until(lambda: NAME in self._plane.kubectl(*nodes), "the kubelet does not register")

    def _start_network(self, config: str) -> None:
        """Services' addresses, and policies."""
        self._start(
            "kube-proxy",
            str(toolchain.NODE.path("kube-proxy")),
            config,
            f"--hostname-override={NAME}",
            f"--cluster-cidr={_PODS}",
            "--proxy-mode=iptables",
            # The machine's own limits stay as they are.
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0s",
            "--conntrack-tcp-timeout-close-wait=0s",
        )
        self._start(
            "firewall",
            str(toolchain.FIREWALL.path("firewall")),
            config,
            f"--hostname-override={NAME}",
            f"--service-cluster-ip-range={SERVICES}",
        )

    def stop(self) -> None:
        """Containers end with the namespace of processes."""
        for process in reversed(self._processes):
            with contextlib.suppress(AssertionError):
                process.kill()

    def _start(self, name: str, *command: str) -> None:
        folder = self._folder / name
        folder.mkdir()
        process = Process(list(command), folder, signal.SIGTERM)
        self._processes.append(process)
        process.start()

    def _containerd_config(self) -> Path:
        networks = self._folder / "networks"
        networks.mkdir()
        addresses = {"type": "host-local", "ranges": [[{"subnet": _PODS}]]}
        bridge = {"type": "bridge", "bridge": "pods0", "isGateway": True, "hairpinMode": True}
        bridge |= {"ipam": {**addresses, "routes": [{"dst": "0.0.0.0/0"}]}}
        network = {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}
        (networks / "pods.conflist").write_text(json.dumps(network))
        path = self._folder / "containerd.toml"
        path.write_text(_CONTAINERD.format(folder=self._folder, image=PYTHON, plugins=_PLUGINS))
        return path

    def _kubelet_config(self) -> Path:
        config: dict[str, Any] = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": f"unix://{self._socket}",
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": False,
            "failSwapOn": False,
            # Nobody else is in this network.
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "clusterDNS": [NAME_SERVER],
            "clusterDomain": "cluster.local",
            "resolvConf": "",
            "syncFrequency": "10s",  # a changed Secret comes to a pod that often
            # The machine's disk is full of other things, and the images cannot be had again.
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "containerLogMaxSize": "1Gi",
        }
        path = self._folder / "kubelet.json"
        path.write_text(json.dumps(config))
        return path


# Without CAP_SYS_RESOURCE, which containers of build machines lack, nobody may be killed later
# than who starts him.
_CONTAINERD = """\
version = 2
root = "{folder}/containerd-root"
state = "{folder}/containerd-state"
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{folder}/networks"
"""


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"{name} was looked for before"
    return found


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True).returncode == 0


@contextlib.contextmanager
def joined(plane: ControlPlane, folder: Path) -> Iterator[None]:
    """A node of a control plane. Raises Unavailable."""
    node = Node(plane, folder)
    try:
        node.start()
        yield
    finally:
        node.stop()
