"""Whether pods start, stop and move as the services are made for."""

from __future__ import annotations

import math
from collections.abc import Iterator

from services.common.server import LIVENESS
from tests.k8s.manifests import Manifests, Pod, matches
from tests.k8s.rules.settings import read

GPU = "nvidia.com/"
"""What names of GPUs begin with, whole ones, shares and partitions."""

_DNS_LIFE_S = 30  # CoreDNS as clusters install it: ttl 30, cache 30
_DNS_MARGIN_S = 5  # until an endpoint that comes or goes has got to DNS
_UNKNOWN = f"for up to {_DNS_LIFE_S} s, callers may know no pod that is still there"
_CLOSE_S = 5  # what the services' own stop takes after the last call
_MIN_MODEL_LOAD_S = 300
_MIN_PROGRESS_S = 1800  # docs/kubernetes.md waits 15 minutes for Milvus and 10 for its users


def probes(manifests: Manifests) -> Iterator[str]:
    """Probes ask for names that the service has, on a port that speaks plain text."""
    for pod in manifests.services:
        service = pod.main.service
        name = f"glimpse.{service}.v1.{service.capitalize()}"
        asked = {
            which: probe["grpc"].get("service", "") for which, probe in pod.main.probes.items()
        }
        wanted = {
            # The encoder starts by loading its model; the others wait for peers, which is no fault
            # that a restart would mend.
            "startupProbe": name if service == "encoder" else LIVENESS,
            "readinessProbe": name,
            "livenessProbe": LIVENESS,
        }
        if asked != wanted:
            yield f"{pod.main}: probes ask for {asked}, not {wanted}"
        environment, prefix = manifests.environment(pod.main), service.upper()
        listen = environment.get(f"{prefix}_LISTEN", "").rpartition(":")[2]
        for which, probe in pod.main.probes.items():
            if environment.get(f"{prefix}_TLS_CERT_FILE") and str(probe["grpc"]["port"]) == listen:
                yield f"{pod.main}: {which} speaks plain text to a TLS port"
        start = pod.main.probes.get("startupProbe", {})
        start_s = start.get("periodSeconds", 10) * start.get("failureThreshold", 3)
        if service == "encoder" and start_s < _MIN_MODEL_LOAD_S:
            yield f"{pod.main}: {start_s} s are too short to load a model"


def grace_periods(manifests: Manifests) -> Iterator[str]:
    """A pod gets the time that its service takes to drain, to end its calls and to close."""
    for pod in manifests.services:
        found = read(pod.main.service, manifests.environment(pod.main))
        if isinstance(found, str):
            continue
        needed_s = math.ceil(found.drain_s + found.grace_s) + _CLOSE_S
        given_s = pod.spec.get("terminationGracePeriodSeconds", 30)
        if given_s < needed_s:
            yield f"{pod.name}: is killed after {given_s} s, but its stop takes up to {needed_s} s"
        if found.drain_s < 1:
            yield f"{pod.name}: callers get no time to notice that it stops (DRAIN_S)"


def disruptions(manifests: Manifests) -> Iterator[str]:
    """Each service has one budget, and it lets a node be drained."""
    budgets = manifests.of("PodDisruptionBudget")
    for pod in manifests.services:
        own = [item for item in budgets if matches(item["spec"]["selector"], pod.labels)]
        if len(own) != 1:
            yield f"{pod.name}: has {len(own)} disruption budgets, not one"
        for item in own:
            if _allowed(item["spec"], _min_replicas(manifests, pod)) < 1:
                yield f"{pod.name}: its disruption budget never lets a pod go"
            if item["spec"].get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
                yield f"{pod.name}: a pod that is not ready holds up every drain of its node"


def _allowed(spec: dict, replicas: int) -> int:
    if "maxUnavailable" in spec:
        return _count(spec["maxUnavailable"], replicas)
    return replicas - _count(spec["minAvailable"], replicas)


def _count(value: int | str, replicas: int) -> int:
    if isinstance(value, int):
        return value
    return math.ceil(replicas * int(value.removesuffix("%")) / 100)


def _min_replicas(manifests: Manifests, pod: Pod) -> int:
    for scaler in manifests.autoscalers:
        if scaler.target == pod.name:
            return scaler.min_replicas
    return pod.max_replicas


def roll_outs(manifests: Manifests) -> Iterator[str]:
    """A roll-out waits neither for a second GPU nor for a volume, and callers notice none."""
    for pod in manifests.services:
        strategy = pod.owner["spec"].get("strategy", {})
        rolling = strategy.get("rollingUpdate", {})
        surge = 0 if strategy.get("type") == "Recreate" else rolling.get("maxSurge", "25%")
        limits = pod.main.spec["resources"].get("limits", {})
        alone = any(name.startswith(GPU) for name in limits)
        for volume in pod.main.mounts.values():
            claim = manifests.find(
                "PersistentVolumeClaim",
                volume.get("persistentVolumeClaim", {}).get("claimName", ""),
                pod.namespace,
            )
            alone = alone or (
                claim is not None and "ReadWriteMany" not in claim["spec"]["accessModes"]
            )
        if alone and surge != 0:
            yield f"{pod.name}: a roll-out waits for a second GPU or volume: take Recreate"
        if not alone and (surge == 0 or rolling.get("maxUnavailable", "25%") != 0):
            yield f"{pod.name}: a roll-out takes a pod away before the next one is ready"
        if rolling and "type" not in strategy:
            yield f"{pod.name}: a strategy without its type is another one at every apply"
        progress_s = pod.owner["spec"].get("progressDeadlineSeconds", 600)
        if progress_s < _MIN_PROGRESS_S:
            yield f"{pod.name}: counts as failed after {progress_s} s, before Milvus may be ready"


def dns(manifests: Manifests) -> Iterator[str]:
    """Pods come and go more slowly than the answers live by which callers know their addresses."""
    needed_s = _DNS_LIFE_S + _DNS_MARGIN_S
    for pod in manifests.services:
        found = read(pod.main.service, manifests.environment(pod.main))
        spec = pod.owner["spec"]
        is_named_early = any(
            service["spec"].get("publishNotReadyAddresses", False)
            for service in manifests.of("Service")
            if matches({"matchLabels": service["spec"].get("selector", {})}, pod.labels)
        )
        if spec.get("strategy", {}).get("type") == "Recreate":
            # A pod that goes before the next one comes is missed anyway, but not for longer.
            if not is_named_early:
                yield f"{pod.name}: DNS remembers {_DNS_LIFE_S} s too long that there is none"
            continue
        if is_named_early:
            yield f"{pod.name}: callers are sent to pods that stop, or do not serve yet"
        if isinstance(found, str):
            continue
        if (ready_s := spec.get("minReadySeconds", 0)) < needed_s:
            yield f"{pod.name}: the next one goes {ready_s} s after a new one is ready: {_UNKNOWN}"
        if found.drain_s < needed_s:
            yield f"{pod.name}: serves {found.drain_s:.0f} s longer when it stops: {_UNKNOWN}"
