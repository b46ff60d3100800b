"""Whether a cluster that somebody has may be used: a run deploys, and deletes namespaces."""

from __future__ import annotations

from tests.cluster.kubectl import Kubectl, Refused
from tests.cluster.toolchain import Unavailable

OURS = "glimpse/test=true"
"""The label of namespaces that a run has made, and may delete."""


def check_usable(kubectl: Kubectl, namespaces: set[str]) -> None:
    """Raises Unavailable where a run would change more than overlays/local, or delete what it has
    not made: `namespaces` are those that it makes."""
    ours = kubectl("get", "namespaces", f"--selector={OURS}", "--output=name")
    there = kubectl("get", "namespaces", "--output=name")
    taken = namespaces.intersection(_names(there)) - set(_names(ours))
    if taken:
        raise Unavailable(
            f"the cluster has {_listed(taken)}: a run makes namespaces of these names, and deletes "
            f"them. Where they are from an older run, label them {OURS}"
        )
    try:
        found = kubectl.get("milvus", "--all-namespaces")["items"]
    except Refused as error:
        raise Unavailable(f"Milvus operator is needed: {error}") from error
    deployments = kubectl.get("deployments", "--namespace=glimpse")["items"]
    volumes = (v for d in deployments for v in d["spec"]["template"]["spec"].get("volumes", ()))
    if any(milvus["spec"].get("mode") == "cluster" for milvus in found) or any(
        "secret" in volume for volume in volumes
    ):
        raise Unavailable(
            "the cluster has a glimpse or a Milvus other than overlays/local, which a run would "
            "deploy over it. Take a cluster of its own"
        )


def _names(objects: str) -> list[str]:
    """Of `namespace/a` lines."""
    return [line.partition("/")[2] for line in objects.split()]


def _listed(names: set[str]) -> str:
    return ", ".join(f"namespace {name!r}" for name in sorted(names))
