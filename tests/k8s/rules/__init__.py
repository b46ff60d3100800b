"""What must hold for rendered manifests: each rule yields a line for each thing that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.k8s.manifests import Manifests
from tests.k8s.rules import (
    addresses,
    autoscaling,
    layers,
    network,
    rollout,
    schema,
    security,
    settings,
    storage,
    wiring,
)

Rule = Callable[[Manifests], Iterator[str]]

RULES: dict[str, Rule] = {
    "selectors": wiring.selectors,
    "ports": wiring.ports,
    "references": wiring.references,
    "last word": layers.last_word,
    "settings": settings.settings,
    "database": settings.database,
    "page tokens": settings.page_tokens,
    "protection": settings.protection,
    "files": settings.files,
    "pictures": settings.pictures,
    "memory": settings.memory,
    "addresses": addresses.addresses,
    "names in certificates": addresses.certificates,
    "probes": rollout.probes,
    "grace periods": rollout.grace_periods,
    "disruptions": rollout.disruptions,
    "roll-outs": rollout.roll_outs,
    "dns": rollout.dns,
    "autoscaling": autoscaling.autoscaling,
    "storage": storage.storage,
    "pod security": security.pod_security,
    "images": security.images,
    "network": network.edges,
    "schema": schema.schema,
}
