"""Whether pods multiply when they are needed, and nobody else sets their number."""

from __future__ import annotations

import re
from collections.abc import Iterator

from services.query.settings import QuerySettings
from tests.k8s.manifests import ROOT, Manifests
from tests.k8s.rules.settings import read


def autoscaling(manifests: Manifests) -> Iterator[str]:
    """The autoscaler owns the number, its metrics exist, and it acts before calls are refused."""
    exported = _documented_metrics()
    for scaler in manifests.autoscalers:
        target = manifests.find("Deployment", scaler.target, "glimpse")
        if target is None:
            yield f"{scaler.kind}: there is no {scaler.target}"
            continue
        if "replicas" in target["spec"]:
            yield f"{scaler.target}: replicas and an autoscaler set the same number"
        if scaler.min_replicas < 2:
            yield f"{scaler.target}: one pod alone cannot be replaced unnoticed"
        if target["spec"].get("strategy", {}).get("type") == "Recreate":
            yield f"{scaler.target}: several pods are all replaced at once"
        if not scaler.thresholds:
            yield f"{scaler.kind}: no metric of the service counts"
        (pod,) = [pod for pod in manifests.services if pod.owner is target]
        found = read(pod.main.service, manifests.environment(pod.main))
        for name, threshold in scaler.thresholds.items():
            if name not in exported:
                yield f"{scaler.kind}: no service exports {name}"
            if isinstance(found, QuerySettings) and threshold >= found.max_in_flight:
                yield f"{scaler.kind}: {threshold:.0f} calls per pod are never reached"


def _documented_metrics() -> set[str]:
    """The metrics of the page that other tests compare with running services."""
    text = (ROOT / "docs" / "operations.md").read_text()
    return set(re.findall(r"^\| `(glimpse_\w+)`", text, re.MULTILINE))
