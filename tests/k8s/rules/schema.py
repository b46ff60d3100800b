"""Whether objects have the fields that the cluster knows, and no others."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import kubernetes_validate
from kubernetes_validate import utils

from tests.k8s.manifests import Manifests, as_key

VERSIONS = ("1.33", "1.35", "1.37")
"""The oldest Kubernetes that manifests are checked against, one between, and a new one."""

_CUSTOM = Path(__file__).parents[1] / "schemas"

# The package reads and parses the definitions, some megabytes, anew for each object.
utils.schema_contents = functools.cache(utils.schema_contents)


def schema(manifests: Manifests) -> Iterator[str]:
    """Kubernetes' own kinds by its schemas, strictly; others by what their documentation says."""
    for container in (each for pod in manifests.pods for each in pod.containers):
        for variable in container.spec.get("env", ()):
            if variable.get("value") == "":
                yield f"{container}: an empty {variable['name']} is a change at every apply"
    for item in manifests.objects:
        where = f"{item['kind']} {item['metadata']['name']}"
        for problem in _problems(as_key(item)):
            yield f"{where}: {problem}"


@functools.cache
def _problems(item_json: str) -> tuple[str, ...]:
    item = json.loads(item_json)
    custom = _CUSTOM / f"{item['kind'].lower()}.json"
    if custom.exists():
        validator = jsonschema.Draft202012Validator(json.loads(custom.read_text()))
        return tuple(f"{_path(error)}: {error.message}" for error in validator.iter_errors(item))
    found = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(item, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"Kubernetes {version}: {_path(error)}: {error.message}")
        except kubernetes_validate.SchemaNotFoundError as error:
            found.append(error.message)
    return tuple(found)


def _path(error: jsonschema.ValidationError) -> str:
    return ".".join(str(part) for part in error.absolute_path)
