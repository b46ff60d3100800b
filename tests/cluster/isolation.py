"""Namespaces of a cluster's own: network, mounts and processes are nobody else's, and go with it.

What runs in them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ADDRESS = "10.10.0.1"
"""The node's, on a bridge that nothing else is on."""

NAME_SERVER = "10.96.0.10"
"""A Service of the cluster."""

_INSIDE = "GLIMPSE_CLUSTER_FOLDER"
_CGROUPS = Path("/sys/fs/cgroup")
_PODS = "kubepods"
# Where containerd, the kubelet and network plugins put things, whatever they are told.
_OWN_FOLDERS = ("/run", "/var/lib", "/var/log")
# What a kubelet sets for the whole machine, and finds set.
_TUNABLES = {
    "/proc/sys/vm/overcommit_memory": "1",
    "/proc/sys/vm/panic_on_oom": "0",
    "/proc/sys/kernel/panic": "10",
    "/proc/sys/kernel/panic_on_oops": "1",
    "/proc/sys/kernel/keys/root_maxkeys": "1000000",
    "/proc/sys/kernel/keys/root_maxbytes": "25000000",
}


def folder() -> Path | None:
    """The cluster's, within its namespaces; None outside."""
    return Path(os.environ[_INSIDE]) if _INSIDE in os.environ else None


def run_inside(module: str, arguments: list[str]) -> int:
    """The exit code of a module in new namespaces; nothing of them is left. Needs root."""
    with tempfile.TemporaryDirectory(prefix="glimpse-cluster-") as name:
        command = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
        command += [sys.executable, "-m", module, *arguments]
        if setpriv := shutil.which("setpriv"):
            command = [setpriv, "--pdeathsig", "KILL", *command]
        try:
            return subprocess.run(command, env=os.environ | {_INSIDE: name}).returncode
        finally:
            _remove_groups()


def has_other_kubelet() -> bool:
    """Whether there are pods' control groups, which this machine has once."""
    return any(_groups())


def _groups() -> list[Path]:
    """Of pods, by controller, and of the unified hierarchy."""
    return [path for path in (_CGROUPS / _PODS, *_CGROUPS.glob(f"*/{_PODS}")) if path.is_dir()]


def _remove_groups() -> None:
    """Those of pods that have ended with their namespaces."""
    for group in _groups():
        for path, _, _ in os.walk(group, topdown=False):
            os.rmdir(path)


def prepare(folder: Path) -> None:
    """Mounts and network, from within the namespaces."""
    for path in _OWN_FOLDERS:
        own = folder / "own" / path.strip("/")
        own.mkdir(parents=True)
        _run("mount", "--bind", str(own), path)
    for path, value in _TUNABLES.items():
        own = folder / "own" / path.strip("/")
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_text(f"{value}\n")
        _run("mount", "--bind", str(own), path)
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "link", "add", "node0", "type", "bridge")
    _run("ip", "address", "add", f"{ADDRESS}/24", "dev", "node0")
    _run("ip", "link", "set", "node0", "up")
    _run("ip", "route", "add", "default", "dev", "node0")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    Path("/proc/sys/net/bridge/bridge-nf-call-iptables").write_text("1")


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
