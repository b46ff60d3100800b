"""A control plane with simulated nodes for a module; `make cluster-test` builds what it wants,
and tests are skipped without that."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import toolchain
from tests.cluster.control_plane import started
from tests.cluster.deployed import PRODUCTION, Cluster
from tests.cluster.nodes import Imaginary, simulated

# Namespaces that belong to what a cluster has to have.
_PREREQUISITES = ("cert-manager", "milvus-operator", "monitoring", "opentelemetry")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    try:
        imaginary, folder = Imaginary(), tmp_path_factory.mktemp("cluster")
        with started(folder) as plane, simulated(plane, imaginary):
            for name in _PREREQUISITES:
                plane.kubectl("create", "namespace", name)
            yield Cluster(plane, imaginary)
    except toolchain.Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def production(cluster) -> Iterator[Cluster]:
    """overlays/production with all of its pods; nodes are usable again afterwards."""
    cluster.deploy(PRODUCTION)
    cluster.kubectl("scale", "deployment/query", "--namespace=glimpse", "--replicas=2")
    cluster.await_ready(encoder=1, indexer=2, query=2)
    yield cluster
    cluster.imaginary.release()
    cluster.kubectl("uncordon", "--selector=kubernetes.io/hostname")
