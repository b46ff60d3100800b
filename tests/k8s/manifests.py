"""Manifests as kustomize renders them, and what is where in them; what is right is rules' job."""

from __future__ import annotations

import functools
import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests import programs

ROOT = Path(__file__).parents[2]
K8S = ROOT / "deploy" / "k8s"

Object = Mapping[str, Any]

# What a cluster may be brought to at once: an overlay, and one of the jobs besides.
DEPLOYMENTS = {
    "local": ("overlays/local",),
    "local, indexing a volume": ("overlays/local", "jobs/from-volume"),
    "local, indexing a bucket": ("overlays/local", "jobs/from-object-store"),
    "local, under load": ("overlays/local", "jobs/load"),
    "production": ("overlays/production",),
    "production, indexing a bucket": ("overlays/production", "jobs/production"),
    "production, making users": ("overlays/production", "jobs/milvus-users"),
    "production, encoders sharing GPUs": ("../../tests/k8s/combinations/shared-gpus",),
    "production, encoders on partitions": ("../../tests/k8s/combinations/gpu-partitions",),
    "production, changing the model": (
        "../../tests/k8s/combinations/second-encoder",
        "jobs/upgrade",
    ),
}

HOW_TO_GET_KUSTOMIZE = (
    "neither kubectl nor kustomize is here, and one of them renders the manifests: install kubectl "
    "1.27 or newer, or, where Go is, run `make build/go/kustomize`"
)


def kustomize_command() -> list[str] | None:
    """How manifests are rendered on this machine, without the folder; None if they cannot be."""
    if kubectl := programs.find("kubectl"):
        return [kubectl, "kustomize"]
    kustomize = programs.find("kustomize")
    return [kustomize, "build"] if kustomize else None


@functools.cache
def _rendered(folder: Path) -> str:
    command = kustomize_command()
    if command is None:
        raise RuntimeError(HOW_TO_GET_KUSTOMIZE)
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise RuntimeError(f"{folder} does not render: {done.stderr.strip()}")
    return done.stdout


def render(*folders: Path) -> Manifests:
    """All objects of some kustomizations. Raises RuntimeError with what kustomize said."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    objects = [
        item
        for folder in folders
        for item in yaml.load_all(_rendered(folder), Loader=loader)
        if item
    ]
    return Manifests(objects, folders)


def kustomizations(folder: Path) -> Iterator[tuple[Path, Object]]:
    """The kustomization of a folder and of each that it is made of, with their folders."""
    spec = yaml.safe_load((folder / "kustomization.yaml").read_text())
    yield folder, spec
    for path in (*spec.get("resources", ()), *spec.get("components", ())):
        if (folder / path).is_dir():
            yield from kustomizations((folder / path).resolve())


def deployment(name: str) -> Manifests:
    """One of DEPLOYMENTS."""
    return render(*(K8S / folder for folder in DEPLOYMENTS[name]))


@dataclass(frozen=True)
class Pod:
    """A pod template with the object that it is part of."""

    owner: Object
    spec: Object
    labels: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.owner["metadata"]["name"]

    @property
    def namespace(self) -> str:
        return self.owner["metadata"]["namespace"]

    @property
    def containers(self) -> list[Container]:
        """Init containers first, as they run."""
        found = [*self.spec.get("initContainers", ()), *self.spec["containers"]]
        return [Container(self, item) for item in found]

    @property
    def main(self) -> Container:
        return Container(self, self.spec["containers"][0])

    @property
    def max_replicas(self) -> int:
        return self.owner["spec"].get("replicas", 1)


@dataclass(frozen=True)
class Container:
    """One container of a pod template."""

    pod: Pod
    spec: Object

    def __str__(self) -> str:
        return f"{self.pod.name}/{self.spec['name']}"

    @property
    def service(self) -> str:
        """Which service's settings it reads, such as "encoder"; "" for other programs."""
        found = re.match(r"python -m services\.([a-z]+)", " ".join(self.spec.get("command", ())))
        return found.group(1) if found else ""

    @property
    def ports(self) -> dict[str, int]:
        return {port["name"]: port["containerPort"] for port in self.spec.get("ports", ())}

    @property
    def probes(self) -> dict[str, Object]:
        names = ("startupProbe", "readinessProbe", "livenessProbe")
        return {name: self.spec[name] for name in names if name in self.spec}

    @property
    def mounts(self) -> dict[str, Object]:
        """Volumes by the path that they are mounted at."""
        volumes = {volume["name"]: volume for volume in self.pod.spec.get("volumes", ())}
        mounts = self.spec.get("volumeMounts", ())
        return {mount["mountPath"]: volumes.get(mount["name"], {}) for mount in mounts}


@dataclass(frozen=True)
class Autoscaler:
    """What sets a Deployment's number of pods, by Kubernetes alone or through KEDA."""

    kind: str
    target: str
    min_replicas: int
    thresholds: Mapping[str, float]
    """By metric, from which figure per pod it asks for more of them."""


class Manifests:
    """Rendered objects, to be asked for by kind, and the folders that they were rendered from."""

    def __init__(self, objects: list[dict[str, Any]], folders: Sequence[Path]) -> None:
        self.objects = objects
        self.folders = tuple(folders)

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        return [item for item in self.objects if item["kind"] in kinds]

    def find(self, kind: str, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        for item in self.of(kind):
            metadata = item["metadata"]
            if metadata["name"] == name and namespace in (None, metadata.get("namespace")):
                return item
        return None

    @property
    def pods(self) -> list[Pod]:
        found = []
        for owner in self.of("Deployment", "StatefulSet", "Job"):
            template = owner["spec"]["template"]
            found.append(Pod(owner, template["spec"], template["metadata"]["labels"]))
        return found

    @property
    def services(self) -> list[Pod]:
        """The pods of encoder, indexer and query."""
        return [pod for pod in self.pods if pod.main.service]

    @property
    def autoscalers(self) -> list[Autoscaler]:
        found = []
        for item in self.of("HorizontalPodAutoscaler"):
            spec = item["spec"]
            thresholds = {
                metric["pods"]["metric"]["name"]: float(metric["pods"]["target"]["averageValue"])
                for metric in spec["metrics"]
                if metric["type"] == "Pods"
            }
            target = spec["scaleTargetRef"]["name"]
            found.append(Autoscaler(item["kind"], target, spec["minReplicas"], thresholds))
        for item in self.of("ScaledObject"):
            spec = item["spec"]
            thresholds = {
                metric: float(trigger["metadata"]["threshold"])
                for trigger in spec["triggers"]
                for metric in re.findall(r"glimpse_\w+", trigger["metadata"]["query"])
            }
            target = spec["scaleTargetRef"]["name"]
            found.append(Autoscaler(item["kind"], target, spec["minReplicaCount"], thresholds))
        return found

    def environment(self, container: Container, secret: str = "secret:value") -> dict[str, str]:
        """A container's variables; each value from a Secret is `secret`."""
        namespace, values = container.pod.namespace, {}
        for source in container.spec.get("envFrom", ()):
            if "configMapRef" in source:
                found = self.find("ConfigMap", source["configMapRef"]["name"], namespace)
                values |= found["data"] if found else {}
        for variable in container.spec.get("env", ()):
            values[variable["name"]] = variable.get("value", secret)
        return values


def matches(selector: Object | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector (None: none) takes these labels."""
    if selector is None:
        return False
    wanted = selector.get("matchLabels", {}).items() <= dict(labels).items()
    return wanted and all(_fits(term, labels) for term in selector.get("matchExpressions", ()))


def _fits(term: Object, labels: Mapping[str, str]) -> bool:
    value = labels.get(term["key"])
    if term["operator"] == "In":
        return value in term["values"]
    if term["operator"] == "NotIn":
        return value not in term["values"]
    return (value is not None) == (term["operator"] == "Exists")


def documented() -> Iterator[tuple[str, str, str, frozenset[str]]]:
    """Kind, namespace, name and keys of what people have to make, as the README lists it."""
    row = re.compile(r"^\| (Secret|PersistentVolumeClaim) \| ([a-z-]+) \| `([a-z-]+)` \| (.*?) \|")
    for line in (K8S / "README.md").read_text().splitlines():
        if found := row.match(line):
            kind, namespace, name, keys = found.groups()
            yield kind, namespace, name, frozenset(re.findall(r"`([\w.-]+)`", keys))


def bytes_of(quantity: str) -> int:
    """Kubernetes' "512Mi" in bytes."""
    units = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "": 1}
    number, unit = re.fullmatch(r"(\d+)([KMGT]i)?", quantity).groups(default="")  # type: ignore[union-attr]
    return int(number) * units[unit]


def as_key(item: Object) -> str:
    """The object as a string, equal for equal ones."""
    return json.dumps(item, sort_keys=True)
