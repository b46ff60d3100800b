"""overlays/production in a real Kubernetes' hands: what is refused beside it, and its pods: spread,
replaced, drained, scaled."""

from __future__ import annotations

import json

import pytest

from tests.cluster import claims, metrics, toolchain
from tests.cluster.deployed import PRODUCTION, Cluster
from tests.cluster.kubectl import Refused
from tests.cluster.nodes import MACHINES
from tests.k8s.manifests import K8S
from tests.waiting import wait_until


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
