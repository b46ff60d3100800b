"""The way from a volume with pictures to a search, by the commands of docs/kubernetes.md."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from tests.cluster import neighbours
from tests.cluster.kubectl import Kubectl
from tests.k8s.manifests import K8S

_COUNT = 12
_QUERY = "dns:///query.glimpse.svc.cluster.local:50053"


def draw(folder: Path) -> None:
    """What the volume has."""
    for number in range(_COUNT):
        Image.new("RGB", (64, 48), (20 * number, 0, 200)).save(folder / f"{number}.png")


def missing_pictures(kubectl: Kubectl) -> int:
    """How many of the volume are not found from a namespace that may search, after the Job."""
    job = ("job/bulk-index", "--namespace=glimpse")
    kubectl("apply", "-k", str(K8S / "jobs" / "from-volume"))
    kubectl("wait", *job, "--for=condition=Complete", "--timeout=5m", timeout_s=320)
    where = ("searcher", f"--namespace={neighbours.NAMESPACES['searcher']}")
    search = ("glimpse", "search", "a blue picture", "-k", str(2 * _COUNT), "--json")
    said = kubectl("exec", *where, "--", *search, "--query", _QUERY)
    kubectl("delete", "-k", str(K8S / "jobs" / "from-volume"))
    return _COUNT - len(json.loads(said)["hits"])
