"""Rendering needs kubectl or kustomize; where neither is, these tests say so instead of failing."""

import pytest

from tests.k8s.manifests import HOW_TO_GET_KUSTOMIZE, kustomize_command


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if kustomize_command() is None:
        for item in items:
            if "/tests/k8s/" in item.path.as_posix():
                item.add_marker(pytest.mark.skip(reason=HOW_TO_GET_KUSTOMIZE))
