"""Whether pods keep to the restricted pod security standard, and images are what they say."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.k8s.manifests import Manifests


def pod_security(manifests: Manifests) -> Iterator[str]:
    """Non-root, read-only, without capabilities or a token of the cluster, within limits."""
    namespace = manifests.find("Namespace", "glimpse")
    labels = namespace["metadata"].get("labels", {}) if namespace else {"none": ""}
    if labels and labels.get("pod-security.kubernetes.io/enforce", "restricted") != "restricted":
        yield "Namespace glimpse: does not enforce the restricted pod security standard"
    for pod in manifests.pods:
        context = pod.spec.get("securityContext", {})
        for field, wanted in (
            ("runAsNonRoot", True),
            ("seccompProfile", {"type": "RuntimeDefault"}),
        ):
            if context.get(field) != wanted:
                yield f"{pod.name}: {field} is not {wanted}"
        if context.get("runAsUser", 0) == 0:
            yield f"{pod.name}: runs as root"
        for field in ("automountServiceAccountToken", "enableServiceLinks"):
            if pod.spec.get(field, True):
                yield f"{pod.name}: {field} is on"
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.spec.get(field):
                yield f"{pod.name}: {field} is on"
        for volume in pod.spec.get("volumes", ()):
            if "hostPath" in volume:
                yield f"{pod.name}: mounts a folder of the node"
        for container in pod.containers:
            context = container.spec.get("securityContext", {})
            if context.get("allowPrivilegeEscalation", True) or context.get("privileged"):
                yield f"{container}: may gain privileges"
            if not context.get("readOnlyRootFilesystem"):
                yield f"{container}: may write to its root file system"
            if context.get("capabilities") != {"drop": ["ALL"]}:
                yield f"{container}: has capabilities"
            resources = container.spec.get("resources", {})
            if not {"cpu", "memory"} <= resources.get("requests", {}).keys():
                yield f"{container}: does not say what it needs"
            if "memory" not in resources.get("limits", {}):
                yield f"{container}: may take all memory of its node"


def images(manifests: Manifests) -> Iterator[str]:
    """No image is `latest`; those of a registry of one's own are pinned by digest."""
    named = [
        (str(container), container.spec["image"])
        for pod in manifests.pods
        for container in pod.containers
    ]
    named += [("Milvus", item["spec"]["components"]["image"]) for item in manifests.of("Milvus")]
    for who, image in named:
        pinned = re.search(r"@sha256:[0-9a-f]{64}$", image)
        tag = re.search(r":([\w.-]+)$", image)
        if not pinned and (not tag or tag.group(1) == "latest"):
            yield f"{who}: {image} is not pinned"
        if not pinned and "glimpse-" in image and "/" in image:
            yield f"{who}: {image} comes from a registry without a digest"
