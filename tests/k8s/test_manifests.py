"""Every overlay keeps every rule; every rule finds what was broken for it on purpose."""

import json
import re
from pathlib import Path

import pytest

import glimpse
from tests.k8s.manifests import DEPLOYMENTS, K8S, ROOT, deployment, kustomizations, render
from tests.k8s.rules import RULES

BROKEN = sorted((Path(__file__).parent / "broken").iterdir())


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_manifests_keep_the_rule(name, rule):
    assert list(RULES[rule](deployment(name))) == []


@pytest.mark.parametrize("folder", BROKEN, ids=lambda folder: folder.name)
def test_what_was_broken_is_found(folder):
    text = (folder / "kustomization.yaml").read_text()
    rule, message = re.findall(r"^# expect: ([a-z- ]+): (.+)$", text, re.MULTILINE)[0]
    problems = list(RULES[rule](render(folder)))
    assert message in "\n".join(problems)


def test_every_rule_has_something_broken_that_it_finds():
    found = set()
    for folder in BROKEN:
        found |= set(
            re.findall(
                r"^# expect: ([a-z- ]+):", (folder / "kustomization.yaml").read_text(), re.MULTILINE
            )
        )
    assert found == RULES.keys()


def test_every_component_is_part_of_what_is_checked():
    folders = {K8S / folder for folders in DEPLOYMENTS.values() for folder in folders}
    listed = {layer for folder in folders for layer, _ in kustomizations(folder)}
    assert set((K8S / "components").iterdir()) <= listed


def test_the_second_encoder_is_as_the_first_one():
    manifests = deployment("production, changing the model")

    def found(kind, name):
        return json.loads(
            json.dumps(manifests.find(kind, name, "glimpse")).replace("encoder-new", "encoder")
        )

    kinds = ("Service", "ServiceAccount", "PodDisruptionBudget", "Deployment")
    for kind in kinds:
        first, second = found(kind, "encoder"), found(kind, "encoder-new")
        if kind == "Deployment":
            for each in (first, second):
                spec = each["spec"]["template"]["spec"]
                for container in (*spec["initContainers"], *spec["containers"]):
                    container["envFrom"], *of_its_own = container["envFrom"]
                    assert len(of_its_own) == (each is second)
                    for some in ("ports", "volumeMounts"):
                        container.get(some, []).sort(key=str)
                spec["volumes"].sort(key=str)
        assert second == first
    first, second = (
        found("PersistentVolumeClaim", f"{name}-weights") for name in ("encoder", "encoder-new")
    )
    assert second == first


def test_local_images_have_the_version_of_the_project():
    images = [c.spec["image"] for pod in deployment("local").services for c in pod.containers]
    assert images == [
        f"glimpse-{pod}:{glimpse.__version__}" for pod in ("encoder", "encoder", "indexer", "query")
    ]


def test_what_a_real_node_gets_is_the_local_overlay_with_two_pods_each():
    ours = {pod.name: pod.owner["spec"] for pod in deployment("local").services}
    tried = render(ROOT / "tests" / "cluster" / "manifests" / "node").services
    for name in ("indexer", "query"):
        (found,) = [pod.owner["spec"] for pod in tried if pod.name == name]
        assert found == {**ours[name], "replicas": 2}


def test_production_is_protected_scaled_and_watched():
    manifests = deployment("production")
    kinds = {item["kind"] for item in manifests.objects}
    assert kinds >= {"Certificate", "HorizontalPodAutoscaler", "PodMonitor", "NetworkPolicy"}
    assert "PrometheusRule" in kinds
    dashboards = [
        item["data"] for item in manifests.of("ConfigMap") if "dashboard" in str(item["metadata"])
    ]
    assert [list(data) for data in dashboards] == [["glimpse.json"]]
    for pod in manifests.services:
        assert all("@sha256:" in container.spec["image"] for container in pod.containers)
        assert not any("INSECURE" in name for name in manifests.environment(pod.main))
    (milvus,) = manifests.of("Milvus")
    spec = milvus["spec"]
    assert spec["mode"] == "cluster"
    assert spec["dependencies"]["etcd"]["inCluster"]["values"]["replicaCount"] == 3
    assert spec["dependencies"]["storage"]["external"]
    assert spec["config"]["common"]["security"]["authorizationEnabled"]
