"""Whether the network policies allow exactly the connections that the architecture has."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tests.k8s.manifests import Manifests, Object, matches

SERVING = {"encoder": 50051, "indexer": 50052, "query": 50053}
METRICS = {"encoder": 9051, "indexer": 9052, "query": 9053}
HEALTH = 8081
OTLP = 4317
_INTERNET = ("internet", "internet over IPv6")
_PORTS = (*SERVING.values(), *METRICS.values(), HEALTH, OTLP, 53, 443, 2379, 9091, 19530)


@dataclass(frozen=True)
class Place:
    """Somewhere a connection may start or end: a pod, or an address outside of the cluster."""

    name: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    address: str = (
        "10.1.2.3"  # of a pod; policies reckon with addresses only outside of the cluster
    )
    outside: bool = False


def _elsewhere(
    name: str, namespace: str, pod: Mapping[str, str] | None = None, **labels: str
) -> Place:
    named = {"kubernetes.io/metadata.name": namespace}
    named |= {key.replace("__", "/").replace("_", "-"): value for key, value in labels.items()}
    return Place(name, namespace, pod or {}, named)


_ELSEWHERE = [
    _elsewhere("dns", "kube-system", {"k8s-app": "kube-dns"}),
    _elsewhere("kube-system's others", "kube-system"),
    _elsewhere("milvus", "glimpse-milvus", {"app.kubernetes.io/instance": "glimpse"}),
    _elsewhere("etcd", "glimpse-milvus", {"app.kubernetes.io/instance": "glimpse-etcd"}),
    _elsewhere("operator", "milvus-operator"),
    _elsewhere("prometheus", "monitoring"),
    _elsewhere("collector", "opentelemetry", {"app.kubernetes.io/name": "opentelemetry-collector"}),
    _elsewhere("searcher", "shop", glimpse__may_search="true"),
    _elsewhere("ingester", "shop-import", glimpse__may_index="true"),
    _elsewhere("stranger", "default", {"app.kubernetes.io/name": "query"}),
    Place("internet", address="93.184.216.34", outside=True),
    Place("private network", address="10.9.9.9", outside=True),
    Place("node's metadata", address="169.254.169.254", outside=True),
    Place("internet over IPv6", address="2001:4860:4860::8888", outside=True),
    Place("private network over IPv6", address="fd12::9", outside=True),
    Place("node's metadata over IPv6", address="fd00:ec2::254", outside=True),
    Place("node's link over IPv6", address="fe80::1", outside=True),
]


def edges(manifests: Manifests) -> Iterator[str]:
    """Each connection that is allowed is one of the architecture, and the other way round."""
    allowed, expected = allowed_edges(manifests), expected_edges(manifests)
    for edge in sorted(allowed - expected):
        yield "network: {} may reach {} on port {}, which it need not".format(*edge)
    for edge in sorted(expected - allowed):
        yield "network: {} cannot reach {} on port {}".format(*edge)


def expected_edges(manifests: Manifests) -> set[tuple[str, str, int]]:
    """The connections of docs/architecture.md, and those that a cluster needs besides."""
    pods = {pod.name for pod in manifests.pods}
    found = {(name, "dns", 53) for name in pods}
    encoders = {pod.name for pod in manifests.services if pod.main.service == "encoder"}
    for encoder in encoders:
        found |= {(caller, encoder, SERVING["encoder"]) for caller in ("indexer", "query")}
        found |= {(encoder, internet, 443) for internet in _INTERNET}  # the weights
    found |= {(caller, "milvus", 19530) for caller in ("indexer", "query")}
    found |= {("searcher", "query", SERVING["query"]), ("ingester", "indexer", SERVING["indexer"])}
    for pod in manifests.pods:
        if pod.name == "load":
            found |= {(pod.name, name, port) for name, port in SERVING.items()}
        if pod.name == "upgrade":
            found |= {(pod.name, name, SERVING[name]) for name in ("indexer", "query")}
            found.add((pod.name, "encoder-new", SERVING["encoder"]))
        if pod.name == "bulk-index":
            found.add((pod.name, "indexer", SERVING["indexer"]))
            if any("rclone" in container.spec["image"] for container in pod.containers):
                found |= {(pod.name, internet, 443) for internet in _INTERNET}
    for pod in manifests.services:
        if f"{pod.main.service.upper()}_OTLP_ENDPOINT" in manifests.environment(pod.main):
            found.add((pod.name, "collector", OTLP))
    if manifests.of("PodMonitor"):
        found |= {("prometheus", pod.name, METRICS[pod.main.service]) for pod in manifests.services}
    return found


def allowed_edges(manifests: Manifests) -> set[tuple[str, str, int]]:
    """What the policies let through, from or to the services, or into Milvus' namespace."""
    ours = [
        Place(
            pod.name,
            pod.namespace,
            pod.labels,
            {"kubernetes.io/metadata.name": pod.namespace},
            pod.main.ports,
        )
        for pod in manifests.pods
    ]
    # These talk on ports of Milvus' own choice.
    inside = ("glimpse-milvus", "milvus-operator")
    insiders = {place.name for place in [*ours, *_ELSEWHERE] if place.namespace in inside}
    found = set()
    for source in [*ours, *_ELSEWHERE]:
        for target in [*ours, *_ELSEWHERE]:
            watched = source in ours or target in ours or target.namespace == "glimpse-milvus"
            if source is target or not watched or {source.name, target.name} <= insiders:
                continue
            for port in _PORTS:
                if _allows(manifests, source, target, port):
                    found.add((source.name, target.name, port))
    return found


def _allows(manifests: Manifests, source: Place, target: Place, port: int) -> bool:
    leaves = source.outside or _direction(manifests, "egress", source, target, port, target)
    return leaves and (
        target.outside or _direction(manifests, "ingress", target, source, port, target)
    )


def _direction(
    manifests: Manifests, way: str, owner: Place, peer: Place, port: int, target: Place
) -> bool:
    policies = [
        item["spec"]
        for item in manifests.of("NetworkPolicy")
        if item["metadata"]["namespace"] == owner.namespace
        and way.capitalize() in item["spec"]["policyTypes"]
        and matches(item["spec"]["podSelector"], owner.labels)
    ]
    if not policies:
        return True
    peers = {"egress": "to", "ingress": "from"}[way]
    return any(
        _is_peer(rule.get(peers), peer, owner) and _is_port(rule.get("ports"), port, target)
        for spec in policies
        for rule in spec.get(way, ())
    )


def _is_port(ports: list[Object] | None, port: int, target: Place) -> bool:
    if ports is None:
        return True
    return port in [target.ports.get(item["port"], item["port"]) for item in ports]


def _is_peer(peers: list[Object] | None, place: Place, owner: Place) -> bool:
    if peers is None:
        return True
    return any(_is_one(peer, place, owner) for peer in peers)


def _is_one(peer: Object, place: Place, owner: Place) -> bool:
    if block := peer.get("ipBlock"):
        address = ipaddress.ip_address(place.address)
        return address in ipaddress.ip_network(block["cidr"]) and not any(
            address in ipaddress.ip_network(hole) for hole in block.get("except", ())
        )
    if place.outside:
        return False
    if "namespaceSelector" in peer:
        inside = matches(peer["namespaceSelector"], place.namespace_labels)
    else:
        inside = place.namespace == owner.namespace
    return inside and ("podSelector" not in peer or matches(peer["podSelector"], place.labels))
