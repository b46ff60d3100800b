"""The manifests on a real Kubernetes: apiserver, controllers and scheduler, with simulated nodes.

`make cluster-test` builds what this wants; without it, these tests are skipped.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.cluster import claims, metrics, toolchain
from tests.cluster.control_plane import ControlPlane, started
from tests.cluster.kubectl import Refused
from tests.cluster.nodes import MACHINES, Imaginary, known, simulated
from tests.k8s.manifests import DEPLOYMENTS, K8S
from tests.waiting import wait_until

PRODUCTION = "overlays/production"

_IN_FOREGROUND = ("--namespace=glimpse", "--cascade=foreground")

# Namespaces that belong to what a cluster has to have.
PREREQUISITES = ("cert-manager", "milvus-operator", "monitoring", "opentelemetry")


class Cluster:
    """What is deployed on it, and what became of that."""

    def __init__(self, plane: ControlPlane, imaginary: Imaginary) -> None:
        self.plane, self.imaginary = plane, imaginary
        self.kubectl = plane.kubectl
        self._deployed: str | None = None

    def deploy(self, overlay: str) -> None:
        """Has this overlay alone; does nothing where that is so."""
        if self._deployed != overlay:
            self.clear()
            self.apply(overlay)

    def apply(self, folder: str) -> list[str]:
        """What kubectl says of each object; a warning is a failure."""
        if not folder.startswith("jobs/"):
            self._deployed = folder
        said = self.kubectl("--warnings-as-errors", "apply", "-k", str(K8S / folder))
        return said.splitlines()

    def clear(self) -> None:
        """Removes what runs, and its claims, and offers volumes for what comes.

        All else stays for the next overlay to overwrite: a namespace takes ten seconds to go.
        """
        if self._deployed is not None:
            for kinds in ("deployments,jobs,hpa,pdb", "persistentvolumeclaims"):
                self.kubectl("delete", kinds, "--all", *_IN_FOREGROUND)
            self._deployed = None
        self.plane.offer_volumes(2)

    def pods(self, name: str) -> list[dict]:
        """An application's pods, without those that are being deleted."""
        label = f"labelSelector=app.kubernetes.io/name={name}"
        found = self.plane.api.ask("GET", f"api/v1/namespaces/glimpse/pods?{label}")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def ready(self, name: str) -> list[dict]:
        return [pod for pod in self.pods(name) if known(pod).is_ready]

    def await_ready(self, **counts: int) -> None:
        """Returns once so many pods are there, and ready."""
        for name, count in counts.items():
            wait_until(
                lambda name=name, count=count: (
                    len(self.ready(name)) == len(self.pods(name)) == count
                ),
                f"{name} has not {count} ready pods",
                timeout_s=60,
            )

    def move(self, name: str, node: str) -> None:
        """Has all pods of an application made anew on one node."""
        others = [each for each in ("a1", "b1", "c1") if each != node]
        label = f"--selector=app.kubernetes.io/name={name}"
        count = len(self.pods(name))
        self.kubectl("cordon", *others)
        self.kubectl("delete", "pods", "--namespace=glimpse", label)
        self.await_ready(**{name: count})
        self.kubectl("uncordon", *others)

    def drain(self, node: str) -> subprocess.Popen[str]:
        """As for maintenance; it takes until the budgets let it."""
        options = ("--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s")
        return self.kubectl.popen("drain", node, *options)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    try:
        imaginary, folder = Imaginary(), tmp_path_factory.mktemp("cluster")
        with started(folder) as plane, simulated(plane, imaginary):
            for name in PREREQUISITES:
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
    changed = [line for line in cluster.apply(folder) if not line.endswith(" unchanged")]
    # kubectl always sends a budget's selector again, since it is replaced as a whole.
    assert [line for line in changed if not line.startswith("poddisruptionbudget.")] == []
    assert _generations_of_budgets(cluster) == budgets
    assert cluster.kubectl("diff", "-k", str(K8S / folder)) == ""
    cluster.kubectl("--warnings-as-errors", "apply", "--server-side", "-k", str(K8S / folder))
    if below:
        cluster.kubectl("delete", "-k", str(K8S / folder))


def _generations_of_budgets(cluster: Cluster) -> dict[str, int]:
    """How often the specification of each has changed."""
    budgets = cluster.kubectl.get("poddisruptionbudgets", "--namespace=glimpse")["items"]
    return {item["metadata"]["name"]: item["metadata"]["generation"] for item in budgets}


def test_a_run_does_not_deploy_over_production(production):
    with pytest.raises(toolchain.Unavailable, match="other than overlays/local"):
        claims.check_usable(production.kubectl, set())


def test_namespace_refuses_a_pod_that_may_do_more(production):
    pod = {"image": "any", "name": "any", "securityContext": {"privileged": True}}
    with pytest.raises(Refused, match='violates PodSecurity "restricted'):
        production.kubectl(
            *("run", "any", "--image=any", "--namespace=glimpse"),
            f"--overrides={json.dumps({'spec': {'containers': [pod]}})}",
        )


def test_pods_spread_over_zones_and_leave_gpus_to_the_encoder(production):
    zones = {machine.name: machine.zone for machine in MACHINES}
    production.kubectl("scale", "deployment/query", "--namespace=glimpse", "--replicas=3")
    production.await_ready(query=3)
    where = {name: _nodes(production.pods(name)) for name in ("encoder", "indexer", "query")}
    assert {zones[node] for node in where["query"]} == {"a", "b", "c"}
    assert len({zones[node] for node in where["indexer"]}) == 2
    assert where["encoder"] == ["gpu"]
    assert "gpu" not in where["indexer"] + where["query"]


def _nodes(pods: list[dict]) -> list[str]:
    """Where those pods are that are anywhere."""
    return [pod["spec"]["nodeName"] for pod in pods if "nodeName" in pod["spec"]]


def test_encoder_is_replaced_and_taken_back_where_there_is_one_gpu(production):
    deployment = ("deployment/encoder", "--namespace=glimpse")
    (old,) = production.pods("encoder")
    production.kubectl("set", "env", *deployment, "ENCODER_MAX_BATCH_IMAGES=16")
    production.kubectl("rollout", "status", *deployment, "--timeout=30s")
    production.kubectl("rollout", "undo", *deployment)
    production.kubectl("rollout", "status", *deployment, "--timeout=30s")
    (new,) = production.pods("encoder")
    assert new["metadata"]["name"] != old["metadata"]["name"]
    assert new["spec"]["containers"] == old["spec"]["containers"]


def test_drain_waits_until_the_next_pod_is_ready(production):
    production.move("query", "b1")
    production.imaginary.hold("query")
    draining = production.drain("b1")
    assert draining.stderr is not None
    for line in draining.stderr:
        if "violate the pod's disruption budget" in line:
            break
    assert _nodes(production.ready("query")) == ["b1"]
    production.imaginary.release()
    complaints = draining.communicate()
    assert draining.returncode == 0, complaints
    production.await_ready(query=2)
    assert "b1" not in _nodes(production.pods("query"))


def test_drain_passes_by_pods_of_which_none_is_ready(production):
    production.imaginary.hold("query")  # as if Milvus were away
    query = ("--namespace=glimpse", "--selector=app.kubernetes.io/name=query")
    production.kubectl("delete", "pods", *query)
    wait_until(lambda: len(_nodes(production.pods("query"))) == 2, "pods are not replaced")
    assert production.ready("query") == []
    draining = production.drain(_nodes(production.pods("query"))[0])
    complaints = draining.communicate()
    assert draining.returncode == 0, complaints


def test_evicted_bulk_index_goes_on_without_counting_as_failed(production):
    production.imaginary.hold("bulk-index")
    production.apply("jobs/production")
    wait_until(lambda: _running(production), "the job does not run")
    (node,) = _nodes(production.pods("bulk-index"))
    (old,) = production.pods("bulk-index")
    draining = production.drain(node)
    complaints = draining.communicate()
    assert draining.returncode == 0, complaints
    wait_until(
        lambda: _running(production) not in ([], [old["metadata"]["name"]]),
        "the job does not go on elsewhere",
    )
    production.imaginary.release()
    job = ("job/bulk-index", "--namespace=glimpse")
    production.kubectl("wait", *job, "--for=condition=Complete", "--timeout=30s")
    assert not production.kubectl.get(*job)["status"].get("failed")
    production.kubectl("delete", "-k", str(K8S / "jobs" / "production"))


def _running(cluster: Cluster) -> list[str]:
    pods = cluster.pods("bulk-index")
    return [pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Running"]


def test_number_of_query_pods_is_the_autoscalers(production):
    deployment = ("deployment/query", "--namespace=glimpse")
    production.kubectl("scale", *deployment, "--replicas=12")
    production.await_ready(query=10)
    production.kubectl("scale", *deployment, "--replicas=1")
    production.await_ready(query=2)
    production.kubectl("scale", *deployment, "--replicas=4")
    production.apply(PRODUCTION)
    production.await_ready(query=4)
    production.kubectl("scale", *deployment, "--replicas=2")
    production.await_ready(query=2)


def test_calls_in_flight_add_query_pods_also_where_the_cpu_is_not_measured(production):
    with metrics.served(production.plane, total=50):  # 16 for each pod
        production.await_ready(query=4)
