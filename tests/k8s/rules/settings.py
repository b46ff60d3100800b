"""Whether the variables in the manifests are settings that the services know and take."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Mapping
from unittest import mock

from services.common.decode_workers import WORKER_BYTES
from services.common.settings import ServiceSettings, load
from services.common.text_bounds import MAX_TEXT_CHARACTERS
from services.encoder.settings import EncoderSettings
from services.indexer.settings import IndexerSettings
from services.query.settings import QuerySettings
from tests.k8s.manifests import Manifests, Pod, bytes_of, documented

KINDS: dict[str, type[ServiceSettings]] = {
    "encoder": EncoderSettings,
    "indexer": IndexerSettings,
    "query": QuerySettings,
}

_LIBRARIES_BYTES = 400 * 10**6
_TORCH_BYTES = {"cpu": 1 * 10**9, "cuda": 4 * 10**9}  # the weights and what loads them included
_IMAGE_SIZE = 336  # of the largest model of openai/CLIP
_BATCHES = 2  # one that the device has, one that is put together
_LINES = {"indexer": 2}  # before its places, and before its streams
_COPIES = 2  # of a picture in a query: as received, and on its way to the encoder


def read(service: str, environment: Mapping[str, str]) -> ServiceSettings | str:
    """What the service reads from these variables; a string when it refuses to start."""
    said = io.StringIO()
    with mock.patch.dict(os.environ, environment, clear=True), contextlib.redirect_stderr(said):
        try:
            return load(KINDS[service], [])
        except SystemExit:
            return "; ".join(said.getvalue().splitlines())


def _read_all(manifests: Manifests) -> Iterator[tuple[Pod, ServiceSettings]]:
    for pod in manifests.services:
        found = read(pod.main.service, manifests.environment(pod.main))
        if not isinstance(found, str):
            yield pod, found


def settings(manifests: Manifests) -> Iterator[str]:
    """Every variable is a setting, every required one is set, and the service takes the values."""
    for pod in manifests.services:
        for container in pod.containers:
            environment, kind = manifests.environment(container), KINDS[container.service]
            known = {f"{kind.prefix()}{name.upper()}" for name in kind.model_fields}
            for name in sorted(environment.keys() - known):
                yield f"{container}: {name} is no setting of {container.service}"
            found = read(container.service, environment)
            if isinstance(found, str):
                yield f"{container}: {found}"


def database(manifests: Manifests) -> Iterator[str]:
    """The indexer writes where query reads."""
    names = {
        pod.main.service: manifests.environment(pod.main).get(
            f"{pod.main.service.upper()}_MILVUS_DATABASE", ""
        )
        for pod in manifests.services
        if pod.main.service in ("indexer", "query")
    }
    if len(set(names.values())) > 1:
        yield f"MILVUS_DATABASE differs: {names}"


def page_tokens(manifests: Manifests) -> Iterator[str]:
    """Where more than one query pod answers, they sign pages with the same key."""
    for pod in manifests.services:
        scaled = any(scaler.target == pod.name for scaler in manifests.autoscalers)
        several = scaled or pod.max_replicas > 1
        signed = manifests.environment(pod.main).get("QUERY_PAGE_TOKEN_KEY")
        if pod.main.service == "query" and several and not signed:
            yield f"{pod.main}: several pods need one QUERY_PAGE_TOKEN_KEY"


def protection(manifests: Manifests) -> Iterator[str]:
    """Either nothing is protected and says so, or all is; secrets are never written here."""
    for pod in manifests.services:
        environment, prefix = manifests.environment(pod.main), pod.main.service.upper()
        insecure = environment.get(f"{prefix}_INSECURE") == "true"
        if manifests.of("Certificate"):
            needed = ["TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_CLIENT_CA_FILE", "TOKENS_FILE"]
            if pod.main.service != "encoder":
                needed += ["ENCODER_TLS_CA_FILE", "ENCODER_TLS_CERT_FILE", "ENCODER_TLS_KEY_FILE"]
                needed += ["ENCODER_TOKEN_FILE", "MILVUS_TLS_CA_FILE", "MILVUS_TOKEN"]
            for name in needed:
                if not environment.get(f"{prefix}_{name}"):
                    yield f"{pod.main}: {prefix}_{name} is not set"
            if insecure:
                yield f"{pod.main}: {prefix}_INSECURE=true switches the protection off"
    for pod in manifests.pods:
        environment = manifests.environment(pod.main)
        if manifests.of("Certificate") and "GLIMPSE_INDEXER" in environment:
            for name in ("TLS_CA", "TLS_CERT", "TLS_KEY", "TOKEN_FILE"):
                if f"GLIMPSE_{name}" not in environment:
                    yield f"{pod.main}: GLIMPSE_{name} is not set"
        for variable in pod.main.spec.get("env", ()):
            if variable["name"].endswith(("_TOKEN", "_TOKEN_KEY")) and "value" in variable:
                yield f"{pod.main}: the secret {variable['name']} is written into the manifest"
    for config_map in manifests.of("ConfigMap"):
        for name in config_map["data"]:
            if name.endswith(("_TOKEN", "_TOKEN_KEY")):
                yield f"ConfigMap {config_map['metadata']['name']}: {name} is a secret"


def files(manifests: Manifests) -> Iterator[str]:
    """Files and folders that settings name lie in a volume that is mounted there, and are in it."""
    keys_of = {(space, name): keys for kind, space, name, keys in documented() if kind == "Secret"}
    for certificate in manifests.of("Certificate"):
        where = certificate["metadata"]["namespace"], certificate["spec"]["secretName"]
        keys_of[where] = frozenset({"tls.crt", "tls.key", "ca.crt"})
    for pod in manifests.pods:
        for container in pod.containers:
            for name, path in manifests.environment(container).items():
                if not name.endswith(("_FILE", "_DIR")) and not name.startswith("GLIMPSE_TLS_"):
                    continue
                mounts = [
                    (at, volume)
                    for at, volume in container.mounts.items()
                    if path == at or path.startswith(at + "/")
                ]
                if not mounts:
                    # Init containers read the same settings, but neither serve nor call.
                    if name.endswith("_DIR") or container is pod.main:
                        yield f"{container}: no volume is mounted for {name}={path}"
                    continue
                at, volume = mounts[0]
                key = path[len(at) + 1 :]
                if secret := volume.get("secret"):
                    keys = keys_of.get((pod.namespace, secret["secretName"]), frozenset())
                    if key not in keys:
                        yield f"{container}: {name}: Secret {secret['secretName']} has no key {key}"


def pictures(manifests: Manifests) -> Iterator[str]:
    """What can be indexed can be searched by: as query sends it on, the encoder takes it."""
    found = list(_read_all(manifests))
    sizes = [each.max_file_bytes for _, each in found if isinstance(each, IndexerSettings)]
    indexed = max(sizes, default=0)
    for pod, each in found:
        if isinstance(each, QuerySettings):
            taken = each.max_image_bytes
            if taken >= each.max_message_bytes:
                yield f"{pod.main}: no picture of QUERY_MAX_IMAGE_BYTES fits into a message"
        elif isinstance(each, EncoderSettings):
            taken = each.max_file_bytes
        else:
            continue
        if taken < indexed:
            yield f"{pod.main}: takes pictures of {taken:,} bytes, the indexer of {indexed:,}"


def memory(manifests: Manifests) -> Iterator[str]:
    """The limits cover what the services' settings let callers make them hold."""
    for pod, found in _read_all(manifests):
        limit = bytes_of(pod.main.spec["resources"]["limits"]["memory"])
        needed = _LIBRARIES_BYTES
        if isinstance(found, EncoderSettings | IndexerSettings):
            needed += found.max_decode_bytes
            needed += (found.decode_workers + 1) * (WORKER_BYTES + found.max_file_bytes)
            if found.decode_workers == 0:
                prefix = found.prefix()
                yield f"{pod.main}: {prefix}DECODE_WORKERS=0 takes one per core of the node"
        if isinstance(found, EncoderSettings):
            needed += _TORCH_BYTES["cpu" if found.device == "cpu" else "cuda"]
            lanes = 2  # interactive images and those in bulk
            needed += lanes * found.max_queued_images * _IMAGE_SIZE**2 * 3
            needed += found.max_decoding_images * found.max_file_bytes
            needed += found.max_queued_texts * MAX_TEXT_CHARACTERS * 4
            needed += found.max_batch_bytes * _BATCHES
        elif isinstance(found, IndexerSettings):
            needed += found.max_streams * found.max_stream_bytes
        elif isinstance(found, QuerySettings):
            needed += found.max_in_flight * found.max_message_bytes * _COPIES
        needed += found.max_waiting_bytes * _LINES.get(pod.main.service, 1)
        if needed > limit:
            yield f"{pod.main}: may hold {needed:,} bytes, of {limit:,}"
