"""What docs/kubernetes.md tells people to apply is there; what it has them write is right."""

import re

import pytest

from tests.cluster import documented
from tests.k8s.manifests import K8S, ROOT, render

PAGES = (ROOT / "docs" / "kubernetes.md", K8S / "README.md")
TEXT = PAGES[0].read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_folders_and_files_that_are_named_exist(page):
    named = set(
        re.findall(r"(?:deploy/k8s/)?((?:overlays|components|jobs)/[\w./-]*\w)", page.read_text())
    )
    assert named
    assert [path for path in sorted(named) if not (K8S / path).exists()] == []


def test_what_is_applied_can_be_rendered():
    applied = set(re.findall(r"kubectl (?:apply|diff|delete) -k deploy/k8s/([\w/-]+)", TEXT))
    assert applied >= {"overlays/local", "overlays/production", "jobs/production"}
    for folder in applied:
        assert render(K8S / folder).objects


def test_components_that_the_page_has_people_add_are_in_their_order():
    listed = re.findall(r"^      - \.\./\.\./\.\./components/([\w-]+)$", TEXT, re.MULTILINE)
    assert listed == ["second-encoder", "several-encoders", "encoder-autoscaling"]


def test_every_secret_is_in_the_commands():
    wanted = set(
        re.findall(r"^\| Secret \| [a-z-]+ \| `([a-z-]+)`", PAGES[1].read_text(), re.MULTILINE)
    )
    made = set(re.findall(r"create secret generic ([a-z-]+)", TEXT))
    assert made == wanted


def test_each_command_is_run_on_a_node_of_our_own_or_said_not_to_be():
    found = documented.commands(TEXT)
    known = (*documented.ELSEWHERE, *(each for some in documented.RUN.values() for each in some))
    assert [command for command in found if not command.startswith(known)] == []
    assert [each for each in known if not any(command.startswith(each) for command in found)] == []
    assert "name: shop" in documented.certificate(TEXT)
