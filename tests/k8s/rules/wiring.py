"""Whether what objects say of one another is there: labels, ports, names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.k8s.manifests import Container, Manifests, Pod, documented, matches


def selectors(manifests: Manifests) -> Iterator[str]:
    """Every selector of the services' namespace takes some pod, and Deployments take their own."""
    for pod in manifests.pods:
        selector = pod.owner["spec"].get("selector")
        if selector is not None and not matches(selector, pod.labels):
            yield f"Deployment {pod.name}: its selector does not take its own pods"
    for item in manifests.of("Service", "PodDisruptionBudget", "PodMonitor"):
        selector = item["spec"]["selector"]
        if item["kind"] == "Service":
            selector = {"matchLabels": selector}
        if not _taken(manifests, item, selector):
            yield f"{item['kind']} {item['metadata']['name']}: its selector takes no pod"
    for item in manifests.of("NetworkPolicy"):
        name, selector = item["metadata"]["name"], item["spec"]["podSelector"]
        # Milvus' pods are the operator's; bulk-index is there while a job runs.
        ours = item["metadata"]["namespace"] == "glimpse" and "bulk-index" not in name
        if ours and not _taken(manifests, item, selector):
            yield f"NetworkPolicy {name}: its selector takes no pod"


def _taken(manifests: Manifests, item: dict[str, Any], selector: dict[str, Any]) -> list[Pod]:
    namespace = item["metadata"]["namespace"]
    return [
        pod
        for pod in manifests.pods
        if pod.namespace == namespace and matches(selector, pod.labels)
    ]


def ports(manifests: Manifests) -> Iterator[str]:
    """Ports of Services, probes, monitors and policies are some that the container opens."""
    for service in manifests.of("Service"):
        name = service["metadata"]["name"]
        for pod in _taken(manifests, service, {"matchLabels": service["spec"]["selector"]}):
            for port in service["spec"]["ports"]:
                target = port.get("targetPort", port["port"])
                opened = pod.main.ports
                if target not in opened and target not in opened.values():
                    yield f"Service {name}: {pod.name} has no port {target}"
                elif opened.get(target, target) != port["port"]:
                    yield f"Service {name}: it is headless, and {target} is another port"
    for pod in manifests.services:
        for name, probe in pod.main.probes.items():
            if probe["grpc"]["port"] not in pod.main.ports.values():
                yield f"{pod.main}: {name} asks port {probe['grpc']['port']}, which is not open"
        yield from _listening(manifests, pod.main)
    for monitor in manifests.of("PodMonitor"):
        for pod in _taken(manifests, monitor, monitor["spec"]["selector"]):
            for endpoint in monitor["spec"]["podMetricsEndpoints"]:
                if endpoint["port"] not in pod.main.ports:
                    yield f"PodMonitor: {pod.name} has no port {endpoint['port']}"
    yield from _policy_ports(manifests)


def _listening(manifests: Manifests, container: Container) -> Iterator[str]:
    """The ports that a container declares are those that its settings open, and no others."""
    environment, prefix = manifests.environment(container), container.service.upper()
    opened = {}
    for name, setting in (
        ("grpc", "LISTEN"),
        ("metrics", "METRICS_LISTEN"),
        ("health", "HEALTH_LISTEN"),
    ):
        if value := environment.get(f"{prefix}_{setting}"):
            host, _, port = value.rpartition(":")
            opened[name] = int(port)
            if host != "[::]":  # which is IPv4 as well
                yield f"{container}: {prefix}_{setting}={value} is not reached from other pods"
    if opened != container.ports:
        yield f"{container}: declares the ports {container.ports} and opens {opened}"


def _policy_ports(manifests: Manifests) -> Iterator[str]:
    for policy in manifests.of("NetworkPolicy"):
        if policy["metadata"]["namespace"] != "glimpse":
            continue
        for pod in _taken(manifests, policy, policy["spec"]["podSelector"]):
            for rule in policy["spec"].get("ingress", ()):
                for port in rule.get("ports", ()):
                    opened = {*pod.main.ports, *pod.main.ports.values()}
                    if port["port"] not in opened:
                        name = policy["metadata"]["name"]
                        yield f"NetworkPolicy {name}: {pod.name} has no port {port['port']}"


def references(manifests: Manifests) -> Iterator[str]:
    """Whatever pods name is there, or people are told to make it."""
    asked = {(kind, namespace, name): keys for kind, namespace, name, keys in documented()}
    for certificate in manifests.of("Certificate"):
        where = certificate["metadata"]["namespace"], certificate["spec"]["secretName"]
        asked[("Secret", *where)] = frozenset({"tls.crt", "tls.key", "ca.crt"})
    for kind, namespace, name, key, who in _referenced(manifests):
        found = manifests.find(kind, name, None if kind == "PriorityClass" else namespace)
        if found is None and (kind, namespace, name) not in asked:
            yield f"{who}: {kind} {name} does not exist and is not in the README's list"
        elif found is None and key and key not in asked[kind, namespace, name]:
            yield f"{who}: {kind} {name} has no key {key} in the README's list"


def _referenced(manifests: Manifests) -> Iterator[tuple[str, str, str, str, str]]:
    """Kind, namespace, name, key ("" if the whole) and who refers to it."""
    for pod in manifests.pods:
        yield "ServiceAccount", pod.namespace, pod.spec["serviceAccountName"], "", pod.name
        yield "PriorityClass", "", pod.spec["priorityClassName"], "", pod.name
        for volume in pod.spec.get("volumes", ()):
            if secret := volume.get("secret"):
                yield "Secret", pod.namespace, secret["secretName"], "", pod.name
            if claim := volume.get("persistentVolumeClaim"):
                kind = "PersistentVolumeClaim"
                yield kind, pod.namespace, claim["claimName"], "", pod.name
            if "configMap" in volume:
                yield "ConfigMap", pod.namespace, volume["configMap"]["name"], "", pod.name
        for container in pod.containers:
            yield from _variables(container)
    for milvus in manifests.of("Milvus"):
        namespace, spec = milvus["metadata"]["namespace"], milvus["spec"]
        if name := spec["dependencies"]["storage"].get("secretRef"):
            for key in ("accesskey", "secretkey"):
                yield "Secret", namespace, name, key, "Milvus"
        for volume in spec["components"].get("volumes", ()):
            yield "Secret", namespace, volume["secret"]["secretName"], "", "Milvus"


def _variables(container: Container) -> Iterator[tuple[str, str, str, str, str]]:
    namespace, who = container.pod.namespace, str(container)
    for source in container.spec.get("envFrom", ()):
        if "configMapRef" in source:
            yield "ConfigMap", namespace, source["configMapRef"]["name"], "", who
        if "secretRef" in source:
            yield "Secret", namespace, source["secretRef"]["name"], "", who
    for variable in container.spec.get("env", ()):
        if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
            yield "Secret", namespace, reference["name"], reference["key"], who
