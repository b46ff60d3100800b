"""The ways from pictures to a search that docs/kubernetes.md has, and who is let in on them."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from tests.cluster import callers, intruder, neighbours
from tests.cluster.documented import Documented
from tests.cluster.issuer import Issuer
from tests.cluster.kubectl import Kubectl
from tests.k8s.manifests import K8S

_MANIFESTS = Path(__file__).parent / "manifests"
_COUNT = 12
_QUERY = "dns:///query.glimpse.svc.cluster.local:50053"


def draw(folder: Path) -> None:
    """What the volume has."""
    for number in range(_COUNT):
        Image.new("RGB", (64, 48), (20 * number, 0, 200)).save(folder / f"{number}.png")


def missing_pictures(kubectl: Kubectl, documented: Documented) -> int:
    """How many of the volume are not found from a namespace that may search, after the Job."""
    job = ("job/bulk-index", "--namespace=glimpse")
    kubectl("apply", "-k", str(K8S / "jobs" / "from-volume"))
    kubectl("wait", *job, "--for=condition=Complete", "--timeout=5m", timeout_s=320)
    where = ("searcher", f"--namespace={neighbours.NAMESPACES['searcher']}")
    search = ("glimpse", "search", "a blue picture", "-k", str(2 * _COUNT), "--json")
    said = kubectl("exec", *where, "--", *search, "--query", _QUERY)
    documented.run("job")
    kubectl("delete", "--ignore-not-found", "-k", str(K8S / "jobs" / "from-volume"))
    return _COUNT - len(json.loads(said)["hits"])


def secure_job(kubectl: Kubectl, issuer: Issuer) -> None:
    """The Job with a certificate and a token, in an overlay with both."""
    job = ("job/bulk-index", "--namespace=glimpse")
    kubectl("apply", "-k", str(_MANIFESTS / "secure-job"))
    issuer.issue()
    kubectl("wait", *job, "--for=condition=Complete", "--timeout=5m", timeout_s=320)
    kubectl("delete", "-k", str(_MANIFESTS / "secure-job"))


def wrongly_told(kubectl: Kubectl) -> list[str]:
    """What callers were told otherwise than they should be, who lack what they have to show."""
    command = ("caller", f"--namespace={callers.NAMESPACE}", "--", "python", "/caller/intruder.py")
    told = json.loads(kubectl("exec", *command, timeout_s=300))
    return [
        f"{case}: {told.get(case)!r} in place of {reason!r}"
        for service in ("query", "indexer")
        for name, (_, reason) in intruder.CASES.items()
        if told.get(case := f"{service}: {name}") != reason
    ]
