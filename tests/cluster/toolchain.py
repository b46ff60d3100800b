"""Kubernetes' own programs and other makers' definitions of kinds, built and fetched once with Go.

    python -m tests.cluster.toolchain [--node]

They are kept in a folder of the user's cache, which outlives checkouts. Starting them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from glimpse.cli.console import say
from tests import programs

VERSION = "v1.33.13"

# Exit code of the command, as of other targets: what is needed cannot be had.
UNAVAILABLE = 3

_SOURCE = Path(__file__).parent / "programs"
_GO_IS_MISSING = "Go is not here, and Kubernetes is built with it: https://go.dev/dl"


class Unavailable(Exception):
    """Something that a cluster needs is not here; the message says how to get it."""


@dataclass(frozen=True)
class Binary:
    """A program of programs/MODULE/PACKAGE, which is called by several names."""

    module: str
    package: str
    names: tuple[str, ...]

    def path(self, name: str) -> Path:
        """Where it is called by that name. Raises Unavailable."""
        return _present(self._folder / name)

    @property
    def _folder(self) -> Path:
        module = _SOURCE / self.module
        files = [module / "go.mod", module / "go.sum", *sorted((module / self.package).iterdir())]
        return _kept(VERSION.encode(), *(path.read_bytes() for path in files))

    def build(self) -> None:
        """Builds it, if it is not there yet. Raises Unavailable."""
        _keep(self._folder, self._build)

    def _build(self, folder: Path) -> None:
        say(f"Building {', '.join(self.names)}, once: minutes of all processors ...")
        major, minor, _ = VERSION.removeprefix("v").split(".")
        values = {"gitVersion": VERSION, "gitMajor": major, "gitMinor": minor}
        flags = " ".join(f"-X k8s.io/component-base/version.{k}={v}" for k, v in values.items())
        program = str(folder / "program")
        options = ["-ldflags", f"-s -w {flags}", "-o", program]
        _go("build", *options, f"./{self.package}", cwd=_SOURCE / self.module)
        for name in self.names:
            (folder / name).symlink_to("program")


CONTROL_PLANE = Binary(
    "kubernetes",
    "control",
    ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"),
)

NODE = Binary("kubernetes", "node", ("kubelet", "kube-proxy"))
COREDNS = Binary("coredns", "server", ("coredns",))
FIREWALL = Binary("kubernetes", "firewall", ("firewall",))

# The kinds that the manifests use, by the modules that define them.
_DEFINITIONS = {
    "github.com/cert-manager/cert-manager@v1.21.2": (
        "deploy/crds/cert-manager.io_certificates.yaml",
        "deploy/crds/cert-manager.io_clusterissuers.yaml",
    ),
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": (
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ),
    "github.com/kedacore/keda/v2@v2.17.2": ("config/crd/bases/keda.sh_scaledobjects.yaml",),
}


def definitions() -> list[Path]:
    """The files of custom kinds. Raises Unavailable."""
    return [
        _present(_definitions_folder() / Path(path).name)
        for paths in _DEFINITIONS.values()
        for path in paths
    ]


def _definitions_folder() -> Path:
    return _kept(repr(_DEFINITIONS).encode())


def _fetch_definitions(folder: Path) -> None:
    for module, paths in _DEFINITIONS.items():
        fetched = json.loads(_go("mod", "download", "-json", module, cwd=folder))
        for path in paths:
            shutil.copyfile(Path(fetched["Dir"]) / path, folder / Path(path).name)


def kubectl() -> str:
    """Raises Unavailable."""
    found = programs.find("kubectl")
    if found is None:
        raise Unavailable("kubectl is not here: install 1.32 or newer, and put it on the PATH")
    return found


def cache() -> Path:
    """What outlives checkouts."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return folder / "glimpse-cluster"


def _kept(*sources: bytes) -> Path:
    """Where something is kept that is made of these: another folder for another version."""
    return cache() / hashlib.sha256(b"\0".join(sources)).hexdigest()[:16]


def _keep(folder: Path, make: Callable[[Path], None]) -> None:
    """Makes the folder, whole or not at all."""
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        new = Path(name) / "new"
        new.mkdir()
        make(new)
        new.rename(folder)


def _present(path: Path) -> Path:
    if not path.exists():
        raise Unavailable("Kubernetes is not built here: `make cluster-test` does that, with Go")
    return path


def _go(*words: str, cwd: Path) -> str:
    if shutil.which("go") is None:
        raise Unavailable(_GO_IS_MISSING)
    environment = os.environ | {"CGO_ENABLED": "0"}
    done = subprocess.run(
        ["go", *words], cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True
    )
    if done.returncode != 0:
        raise Unavailable(f"go {words[0]} failed; the lines above say why")
    return done.stdout


def main() -> int:
    """Returns UNAVAILABLE, after one line, where it cannot be built."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.toolchain")
    parser.add_argument("--node", action="store_true", help="also what runs pods")
    options = parser.parse_args()
    try:
        kubectl()
        CONTROL_PLANE.build()
        _keep(_definitions_folder(), _fetch_definitions)
        if options.node:
            for binary in (NODE, COREDNS, FIREWALL):
                binary.build()
    except Unavailable as error:
        print(error, file=sys.stderr)
        return UNAVAILABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
