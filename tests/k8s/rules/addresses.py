"""Whether the addresses in settings lead to a Service, by a name that its certificate has."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.k8s.manifests import Container, Manifests

MILVUS_PORT = 19530
_SETTINGS = re.compile(r"(INDEXER|QUERY)_(ENCODERS?|MILVUS_URI)|GLIMPSE_(ENCODER|INDEXER|QUERY)")


def _addresses(manifests: Manifests) -> Iterator[tuple[Container, str, str, str, int]]:
    """Container, setting, scheme, host and port of every address that is called."""
    for pod in manifests.pods:
        for container in pod.containers:
            for name, value in manifests.environment(container).items():
                for each in value.split(",") if _SETTINGS.fullmatch(name) and value else ():
                    found = re.fullmatch(r"(\w+):///?([\w.-]+):(\d+)", each)
                    scheme, host, port = found.groups() if found else ("", each, "0")
                    yield container, name, scheme, host, int(port)


def milvus_hosts(manifests: Manifests) -> list[str]:
    """NAME-milvus.NAMESPACE, as the operator names Milvus' Service, for each Milvus."""
    return [
        f"{item['metadata']['name']}-milvus.{item['metadata']['namespace']}"
        for item in manifests.of("Milvus")
    ]


def addresses(manifests: Manifests) -> Iterator[str]:
    """Every address is that of a Service and its port; peers are resolved pod by pod."""
    for container, name, scheme, host, port in _addresses(manifests):
        if name.endswith("MILVUS_URI"):
            if host not in milvus_hosts(manifests) or port != MILVUS_PORT:
                yield f"{container}: {name}: there is no Milvus at {host}:{port}"
            tls = any(
                item["spec"].get("config", {}).get("common", {}).get("security", {}).get("tlsMode")
                for item in manifests.of("Milvus")
            )
            if scheme != ("https" if tls else "http"):
                yield f"{container}: {name}: Milvus does not speak {scheme}"
            continue
        service = manifests.find("Service", host, container.pod.namespace)
        if service is None or port not in [item["port"] for item in service["spec"]["ports"]]:
            yield f"{container}: {name}: there is no Service {host} with port {port}"
        elif scheme != "dns" or service["spec"].get("clusterIP") != "None":
            yield f"{container}: {name}: one pod gets all calls: take dns:///, headless"


def certificates(manifests: Manifests) -> Iterator[str]:
    """Where there are certificates, they have the names by which their owners are called."""
    named = {
        name for item in manifests.of("Certificate") for name in item["spec"].get("dnsNames", ())
    }
    for container, setting, _, host, _ in _addresses(manifests):
        if named and host not in named:
            yield f"{container}: {setting}: no certificate has the name {host}"
