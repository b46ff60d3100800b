"""Whether volumes have the sizes that somebody chose."""

from __future__ import annotations

from collections.abc import Iterator

from tests.k8s.manifests import Manifests, bytes_of

_MAX_STANDALONE_BYTES = 20 * 2**30  # a machine that kind or minikube runs on has no more to spare


def storage(manifests: Manifests) -> Iterator[str]:
    """What Milvus' operator installs beside it says how much it claims: charts claim 500Gi."""
    for item in manifests.of("Milvus"):
        for name in ("etcd", "storage"):
            own = item["spec"]["dependencies"][name].get("inCluster")
            if own is None:
                continue
            size = own.get("values", {}).get("persistence", {}).get("size")
            if size is None:
                yield f"Milvus: {name} claims what its chart likes: set persistence.size"
            elif item["spec"]["mode"] == "standalone" and bytes_of(size) > _MAX_STANDALONE_BYTES:
                yield f"Milvus: {name} claims {size} of one machine"
