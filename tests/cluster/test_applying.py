"""The manifests are applied to a real Kubernetes, and applied again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cluster import claims, toolchain
from tests.cluster.deployed import Cluster
from tests.k8s.manifests import DEPLOYMENTS, K8S

# What validates, and `kubectl diff`, read the server's types; that is two seconds each time.
_ITS_OWN_TYPES = ("--validate=false", "--openapi-patch=false")


def test_a_run_takes_no_cluster_that_is_somebody_elses(cluster):
    claims.check_usable(cluster.kubectl, {"shop"})
    cluster.kubectl("create", "namespace", "shop")
    with pytest.raises(toolchain.Unavailable, match="the cluster has namespace 'shop': a run"):
        claims.check_usable(cluster.kubectl, {"shop"})
    cluster.kubectl("label", "namespace", "shop", claims.OURS)
    claims.check_usable(cluster.kubectl, {"shop"})


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_applied_again_nothing_changes(cluster, name):
    *below, folder = DEPLOYMENTS[name]
    if below:
        cluster.deploy(*below)
    else:
        cluster.clear()
    cluster.apply(folder)
    budgets = _generations_of_budgets(cluster)
    with ThreadPoolExecutor() as pool:
        difference = pool.submit(cluster.kubectl, "diff", "-k", str(K8S / folder))
        again = cluster.apply(folder, *_ITS_OWN_TYPES)
    changed = [line for line in again if not line.endswith(" unchanged")]
    # kubectl always sends a budget's selector again, since it is replaced as a whole.
    assert [line for line in changed if not line.startswith("poddisruptionbudget.")] == []
    assert _generations_of_budgets(cluster) == budgets
    assert difference.result() == ""
    cluster.apply(folder, "--server-side", "--validate=false")
    if below:
        cluster.kubectl("delete", "-k", str(K8S / folder))


def _generations_of_budgets(cluster: Cluster) -> dict[str, int]:
    """How often the specification of each has changed."""
    budgets = cluster.kubectl.get("poddisruptionbudgets", "--namespace=glimpse")["items"]
    return {item["metadata"]["name"]: item["metadata"]["generation"] for item in budgets}
