"""A control plane on ports of this machine: etcd, apiserver, controllers and scheduler.

What runs pods.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

from glimpse.cli.ports import HOST, free_ports
from tests import authority
from tests.backends import Process
from tests.cluster import kinds, toolchain
from tests.cluster.api import Api
from tests.cluster.kubectl import Kubectl
from tests.waiting import wait_until

SERVICES = "10.96.0.0/16"
"""The addresses that Services may have."""

# Whom the apiserver knows by a token; each name is its token as well.
_GROUPS = {
    "admin": "system:masters",
    "system:kube-controller-manager": "",
    "system:kube-scheduler": "",
}


class ControlPlane:
    """Processes over a folder of their own, which end with the process that started them."""

    def __init__(self, folder: Path, bind_address: str = HOST) -> None:
        """The apiserver listens on an address, or on all ("0.0.0.0"). Raises Unavailable."""
        self.folder = folder
        self._bind_address = bind_address
        self._etcd_port, self._peer_port, self._port = free_ports(3)
        signer = authority.Authority("a cluster's authority")
        self._ca = signer.write(folder)
        self._serving = authority.write(folder, "serving", signer.pair("localhost"))
        self._accounts = authority.write(folder, "accounts", signer.pair("accounts"))
        self.api = self.connect()
        environment = {"KUBECONFIG": str(self.kubeconfig("admin")), "HOME": str(folder)}
        self.kubectl = Kubectl(toolchain.kubectl(), environment=environment)
        self._processes = [self._process(name) for name in toolchain.CONTROL_PLANE.names]

    def _process(self, name: str) -> Process:
        command = [
            str(toolchain.CONTROL_PLANE.path(name)),
            *getattr(self, f"_{name.replace('-', '_')}")(),
        ]
        if setpriv := shutil.which("setpriv"):  # Linux: nothing outlives a killed test
            command = [setpriv, "--pdeathsig", "KILL", *command]
        (self.folder / name).mkdir()
        return Process(command, self.folder / name, signal.SIGTERM)

    def _etcd(self) -> list[str]:
        client, peer = (f"http://{HOST}:{port}" for port in (self._etcd_port, self._peer_port))
        return [
            "--data-dir=data",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
        ]

    def _kube_apiserver(self) -> list[str]:
        tokens = self.folder / "tokens.csv"
        lines = [f'{name},{name},{name},"{group}"\n' for name, group in _GROUPS.items()]
        tokens.write_text("".join(lines))
        return [
            f"--etcd-servers=http://{HOST}:{self._etcd_port}",
            f"--bind-address={self._bind_address}",
            f"--advertise-address={HOST}",
            # Pods do not call it, and its address is none that a Service may have.
            "--endpoint-reconciler-type=none",
            f"--secure-port={self._port}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--tls-cert-file={self._serving.cert}",
            f"--tls-private-key-file={self._serving.key}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
            "--allow-privileged",
            f"--service-cluster-ip-range={SERVICES}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={self._accounts.key}",
            f"--service-account-key-file={self._accounts.cert}",
        ]

    def _kube_controller_manager(self) -> list[str]:
        return [
            f"--kubeconfig={self.kubeconfig('system:kube-controller-manager')}",
            "--use-service-account-credentials",
            f"--service-account-private-key-file={self._accounts.key}",
            f"--root-ca-file={self._ca}",
            "--leader-elect=false",
            "--secure-port=0",
            # Simulated nodes say once that they are there.
            "--node-monitor-grace-period=24h",
            "--horizontal-pod-autoscaler-sync-period=1s",
        ]

    def _kube_scheduler(self) -> list[str]:
        config = self.kubeconfig("system:kube-scheduler")
        return [f"--kubeconfig={config}", "--leader-elect=false", "--secure-port=0"]

    def kubeconfig(self, user: str, host: str = HOST) -> Path:
        """How a user reaches the apiserver, by one of its addresses."""
        path = self.folder / f"{user.rpartition(':')[2]}-{host}.conf"
        cluster = {
            "server": f"https://{host}:{self._port}",
            "tls-server-name": "localhost",
            "certificate-authority-data": base64.b64encode(self._ca.read_bytes()).decode(),
        }
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": user}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
            "current-context": "test",
        }
        path.write_text(json.dumps(content))
        return path

    def start(self) -> None:
        """Returns once the API answers, and knows all kinds."""
        etcd, apiserver, *others = self._processes
        etcd.start()
        apiserver.start()
        wait_until(self.api.is_ready, f"the apiserver is not ready: see {self.folder}")
        for process in others:
            process.start()
        files = (word for path in toolchain.definitions() for word in ("-f", str(path)))
        self.kubectl("create", *files)
        self.kubectl("create", "-f", "-", given=json.dumps(kinds.milvus()))
        self.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=60s")

    def connect(self) -> Api:
        """A connection of an administrator."""
        return Api(f"https://{HOST}:{self._port}", self._ca, "admin")

    def stop(self) -> None:
        """Ends what was started; a cluster that is thrown away needs no farewell."""
        self.api.close()
        for process in reversed(self._processes):
            with contextlib.suppress(AssertionError):  # it was never started
                process.kill()

    def offer_volumes(self, count: int, folder: str = "/volume") -> None:
        """Volumes for claims that come, in a folder of the node; each is given once."""
        spec = {
            "capacity": {"storage": "100Gi"},
            "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
            "hostPath": {"path": folder},
        }
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"generateName": "volume-"},
            "spec": spec,
        }
        for _ in range(count):
            self.kubectl("create", "-f", "-", given=json.dumps(volume))


@contextlib.contextmanager
def started(folder: Path, bind_address: str = HOST) -> Iterator[ControlPlane]:
    """A control plane that runs. Raises Unavailable."""
    plane = ControlPlane(folder, bind_address)
    try:
        plane.start()
        yield plane
    finally:
        plane.stop()
