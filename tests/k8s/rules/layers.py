"""Whether what an overlay sets is what is deployed."""

from __future__ import annotations

from collections.abc import Iterator

from tests.k8s.manifests import Manifests, kustomizations


def last_word(manifests: Manifests) -> Iterator[str]:
    """No kustomization sets variables beside its components, whose own are merged after them."""
    for folder in manifests.folders:
        for layer, spec in kustomizations(folder):
            if spec.get("components") and spec.get("configMapGenerator"):
                yield (
                    f"{layer.parent.name}/{layer.name}: its components override what its "
                    "configMapGenerator sets: list them in a kustomization below it"
                )
