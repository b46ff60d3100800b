"""Pods in other namespaces: one that may search, one that may index, one that may do neither."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.kubectl import Kubectl

NAMESPACES = {"searcher": "shop-search", "ingester": "shop-import", "stranger": "default"}
"""Of the pods, which have the names that the rules have for such places."""

MADE = ("shop-search", "shop-import")
"""Namespaces that are there for a while."""

_MANIFEST = Path(__file__).parent / "manifests" / "neighbours.yaml"


@contextlib.contextmanager
def running(kubectl: Kubectl) -> Iterator[None]:
    """All of them, for a while."""
    kubectl("apply", "-f", str(_MANIFEST))
    try:
        for name, namespace in NAMESPACES.items():
            ready = ("wait", f"pod/{name}", f"--namespace={namespace}", "--for=condition=Ready")
            kubectl(*ready, "--timeout=120s")
        yield
    finally:
        kubectl("delete", "--ignore-not-found", "-f", str(_MANIFEST))
