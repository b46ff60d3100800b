"""Definitions of kinds for an apiserver: Milvus', derived from the schema that the rules have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_MILVUS = Path(__file__).parents[1] / "k8s" / "schemas" / "milvus.json"
_ANYTHING = {"x-kubernetes-preserve-unknown-fields": True}


def milvus() -> dict[str, Any]:
    """The CustomResourceDefinition of Milvus operator's kind, as far as glimpse uses it."""
    spec = structural(json.loads(_MILVUS.read_text())["properties"]["spec"])
    status = {"type": "object", **_ANYTHING}
    version = {
        "name": "v1beta1",
        "served": True,
        "storage": True,
        "schema": {
            "openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": status}}
        },
        "subresources": {"status": {}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "milvuses.milvus.io"},
        "spec": {
            "group": "milvus.io",
            "names": {"kind": "Milvus", "plural": "milvuses", "singular": "milvus"},
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def structural(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON schema in the words that a definition may have: it refuses fields that are not listed
    by itself (strict validation), knows no `const`, and wants types and items."""
    if "const" in schema:
        return {"type": "string", "enum": [schema["const"]]}
    if "enum" in schema:
        return {"type": "string", "enum": schema["enum"]}
    found = {key: schema[key] for key in ("type", "minimum", "pattern") if key in schema}
    if schema["type"] == "array":
        found["items"] = structural(schema.get("items", {"type": "object"}))
    if schema["type"] == "object":
        properties = schema.get("properties", {})
        found["properties"] = {name: structural(each) for name, each in properties.items()}
        found |= {"required": schema["required"]} if schema.get("required") else {}
        found |= {} if properties else _ANYTHING
    return found
