"""Who reaches whom: connections from pod to pod, tried, beside what the architecture draws."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cluster import neighbours
from tests.cluster.kubectl import Kubectl
from tests.k8s.manifests import render
from tests.k8s.rules.network import METRICS, SERVING, expected_edges

_MANIFESTS = Path(__file__).parent / "manifests"
_SERVICES = ("encoder", "indexer", "query")

# Milvus and DNS are reached, and never call.
_OTHERS = {
    "milvus": ("glimpse-milvus", "app.kubernetes.io/instance=glimpse", (19530,)),
    "dns": ("kube-system", "k8s-app=kube-dns", (53,)),
}
_CONNECT = """
import json, socket, sys
reached = []
for target, address, port in json.loads(sys.argv[1]):
    try:
        socket.create_connection((address, port), 2).close()
        reached.append([target, port])
    except OSError:
        pass
print(json.dumps(reached))
"""


def wrong_edges(kubectl: Kubectl) -> list[str] | None:
    """What is reached and should not be, and the other way round; None where all is reached, since
    nothing enforces policies then. The neighbours are there."""
    targets = _targets(kubectl)
    sources = {name: f"deployment/{name}" for name in _SERVICES}
    sources |= {name: f"pod/{name}" for name in neighbours.NAMESPACES}
    reached = {
        (source, target, port)
        for source, pod in sources.items()
        for target, port in _reached(kubectl, source, pod, targets)
    }
    tried = {
        (source, target, port)
        for source in sources
        for target, _, port in targets
        if source != target and {source, target} & {*_SERVICES, "milvus"}
    }
    if tried <= reached:
        return None
    wanted = expected_edges(render(_MANIFESTS / "two-pods")) & tried
    surplus = [f"{edge} is reached" for edge in sorted((reached & tried) - wanted)]
    return [*surplus, *(f"{edge} is not reached" for edge in sorted(wanted - reached))]


def _targets(kubectl: Kubectl) -> list[tuple[str, str, int]]:
    """Name, address and port of everything that listens."""
    places = {
        name: ("glimpse", f"app.kubernetes.io/name={name}", (SERVING[name], METRICS[name]))
        for name in _SERVICES
    }
    found = []
    for name, (namespace, label, ports) in (places | _OTHERS).items():
        pods = kubectl.get("pods", f"--namespace={namespace}", f"--selector={label}")["items"]
        address = pods[0]["status"]["podIP"]
        found += [(name, address, port) for port in ports]
    return found


def _reached(
    kubectl: Kubectl, source: str, pod: str, targets: list[tuple[str, str, int]]
) -> list[tuple[str, int]]:
    namespace = f"--namespace={neighbours.NAMESPACES.get(source, 'glimpse')}"
    command = ("python", "-c", _CONNECT, json.dumps(targets))
    said = kubectl("exec", pod, namespace, "--", *command, timeout_s=120)
    return [(target, port) for target, port in json.loads(said)]
