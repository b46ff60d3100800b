"""The commands of docs/kubernetes.md: read out of the page, and run as they stand there.

What stands for what a node of our own has not: another folder in the place of an overlay.
"""

from __future__ import annotations

import re
import subprocess
import sysconfig
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.cluster.kubectl import Kubectl
from tests.k8s.manifests import ROOT

PAGE = ROOT / "docs" / "kubernetes.md"

_PROGRAMS = (
    r"kubectl|glimpse|helm|kind(?=\s)|docker|minikube|kustomize|milvus-backup|for|cd|tail|indexer="
)
_IN_BLOCK = re.compile(rf"^ {{4,}}((?:{_PROGRAMS}).*)$")
_IN_TEXT = re.compile(r"`((?:kubectl|glimpse|minikube) [^`]+)`")

RUN: Mapping[str, tuple[str, ...]] = {
    "secrets": (
        "kubectl create namespace",
        "kubectl -n glimpse-milvus create secret",
        "indexer=$(openssl",
        "kubectl -n glimpse create secret",
        "glimpse token new",
        "tail -qn 1",
    ),
    "from outside": ("glimpse index ~/Pictures", 'glimpse search "a white dog"'),
    "milvus": ("kubectl -n glimpse-milvus wait milvus/glimpse",),
    "first rolled out": (
        "kubectl -n glimpse rollout status deployment/encoder deployment/indexer deployment/query "
        "--timeout=5m",
    ),
    "job": ("kubectl -n glimpse logs -f job/bulk-index", "kubectl -n glimpse delete job"),
    "production": ("kubectl apply -k deploy/k8s/overlays/production",),
    "rolled out": (
        "kubectl -n glimpse rollout status deployment/encoder deployment/indexer deployment/query "
        "--timeout=15m",
        "kubectl -n glimpse rollout status deployment/query",
        "kubectl diff -k",
    ),
    "callers": ("kubectl label namespace shop",),
    "looks": (
        "kubectl -n glimpse get pods",
        "kubectl -n glimpse describe pod",
        "kubectl -n glimpse logs deployment/query",
        "kubectl -n glimpse-milvus get milvus,pods",
    ),
}
"""Beginnings of commands, by the step of a run that they belong to."""

ELSEWHERE: Mapping[str, str] = {
    "kubectl apply -k deploy/k8s/overlays/local": "applied twice by tests.cluster.course",
    "kubectl -n glimpse port-forward": "begun by Documented.with_ports",
    "kubectl apply -k deploy/k8s/jobs/from-volume": "applied by tests.cluster.tour",
    "kubectl apply -k deploy/k8s/jobs": "applied by tests/cluster/test_applying.py",
    "kubectl delete -k deploy/k8s/overlays/local": "ends what the next step needs",
    "kubectl -n glimpse rollout undo": "tests/cluster/test_pods.py does it to the encoder",
    "kubectl -n glimpse rollout restart": "done by tests.cluster.disturbances, one after the other",
    "kubectl -n glimpse-milvus wait job/milvus-users": "Milvus Lite has no users",
    "kubectl logs --namespace glimpse --follow job/load": "its image is built from Go's",
    "kubectl describe": "names nothing to describe",
    "glimpse drop": "tests/e2e/test_stack.py",
    "glimpse upgrade": "tests/upgrade",
    "glimpse generations": "tests/upgrade",
    "glimpse rollback": "tests/upgrade",
    "glimpse prune": "tests/upgrade",
    "kubectl -n glimpse logs -f job/upgrade": "no run has a second encoder",
    "kubectl -n glimpse rollout status deployment/encoder-new": "as before",
    "kubectl -n glimpse delete job upgrade": "as before",
    "kubectl -n glimpse delete deployment,service,serviceaccount,pdb encoder-new": "as before",
    "kubectl -n glimpse delete pvc encoder-new-weights": "as before",
    "glimpse export": "tests/integration/test_backup.py",
    "glimpse import": "tests/integration/test_backup.py",
    "kind": "another cluster is there",
    "minikube": "another cluster is there",
    "helm": "its charts are fetched from the internet",
    "for service": "tests.cluster.images builds the images by buildah",
    "docker": "tests.cluster.images builds the services' images by buildah; load's is only linted",
    "cd": "an overlay to be copied, whose images have no registry",
    "kustomize edit": "an overlay to be copied, whose images have no registry",
    "milvus-backup": "another maker's",
}
"""Beginnings of those that no run has as they stand, and why."""

_STANDS_FOR = {
    "deploy/k8s/overlays/production": "tests/cluster/manifests/secure",
    "describe pod …": "describe pod --selector=app.kubernetes.io/name=query",
}
_UNTIL_IT_LISTENS = "until grep -q ':{port:04X} .* 0A ' /proc/net/tcp; do sleep 0.2; done"


def commands(page: str) -> list[str]:
    """In their order, without comments; those of one line and those in the text, too."""
    joined = re.sub(r" *\\\n +", " ", page)
    found = [match[1] for line in joined.splitlines() if (match := _IN_BLOCK.match(line))]
    found += [" ".join(each.split()) for each in _IN_TEXT.findall(joined)]
    return [re.sub(r"  +#.*", "", each).strip() for each in found]


def step_of(command: str) -> str | None:
    """The first step of a run that has it, if any has."""
    if command.startswith(tuple(ELSEWHERE)):
        return None
    steps = (step for step, some in RUN.items() if command.startswith(some))
    return next(steps, None)


def certificate(page: str) -> str:
    """The one that the page has callers ask for, as YAML."""
    (block,) = re.findall(r"^ +apiVersion: cert-manager\.io/v1\n(?: {7}.*\n)+", page, re.MULTILINE)
    return textwrap.dedent(block)


class Documented:
    """Runs commands in a folder, with kubectl and glimpse as somebody has them who reads on."""

    def __init__(self, kubectl: Kubectl, folder: Path) -> None:
        self.folder = folder
        self._commands = commands(PAGE.read_text())
        own = f"{sysconfig.get_path('scripts')}:{Path(kubectl.program).parent}"
        path = f"{own}:{kubectl.environment['PATH']}"
        self._environment = {**kubectl.environment, "PATH": path, "HOME": str(folder)}

    def run(self, step: str) -> None:
        """All commands of a step, in one shell. Raises RuntimeError with what they wrote."""
        self._shell(self._script(step))

    def with_ports(self, step: str) -> None:
        """The same, while the page's ports are forwarded."""
        forwards = [each for each in self._commands if " port-forward " in each]
        ports = [forward.removesuffix("&").split()[-1] for forward in forwards]
        waits = [_UNTIL_IT_LISTENS.format(port=int(port)) for port in ports]
        ending = "trap 'kill $(jobs -p)' EXIT"
        self._shell([ending, *forwards, *waits, *self._script(step)])

    def _script(self, step: str) -> Iterator[str]:
        for command in dict.fromkeys(self._commands):
            if step_of(command) == step:
                for written, ours in _STANDS_FOR.items():
                    command = command.replace(written, ours)
                yield re.sub(r"-k (?=deploy/|tests/)", f"-k {ROOT}/", command)

    def _shell(self, lines: Iterator[str] | list[str]) -> None:
        script = "\n".join(lines)
        done = subprocess.run(
            ["bash", "-eux", "-o", "pipefail", "-c", script],
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1800,
        )
        if done.returncode != 0:
            raise RuntimeError(f"docs/kubernetes.md:\n{done.stdout}")
