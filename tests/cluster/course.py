"""What a run does to a cluster, in order: deploys, looks, disturbs while callers call."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import stacks
from glimpse.cli.console import say
from tests.cluster import claims, neighbours
from tests.cluster.callers import NAMESPACE, Callers
from tests.cluster.disturbances import Disturbances
from tests.cluster.figures import BACK_S, CALM, ENCODER, PODS, Findings
from tests.cluster.kubectl import Kubectl
from tests.cluster.reach import wrong_edges
from tests.k8s.manifests import K8S

MANIFESTS = Path(__file__).parent / "manifests"

_SERVICES = ("encoder", "indexer", "query")
_CALM_S = 45.0  # what calls take while nothing is replaced
_BEFORE_CALM_S = 30.0  # for a machine that has just deployed

Span = tuple[float, float]  # of the clock


class Course:
    """`findings` are complete once `run` has returned, and hold what there is where it raises."""

    def __init__(self, kubectl: Kubectl, options: argparse.Namespace) -> None:
        self.findings = Findings()
        self.kubectl = kubectl
        self.disturbances = Disturbances(kubectl)
        self.callers = Callers(kubectl)
        self.options = options
        self._begun_s = time.monotonic()
        self._spans: dict[str, Span] = {}
        self._back: list[Span] = []

    def run(self) -> None:
        """On a cluster that somebody has: overlays/local, which stays there. Raises Unavailable."""
        claims.check_usable(self.kubectl, {NAMESPACE, *neighbours.MADE})
        try:
            self._run()
        finally:
            self.kubectl("apply", "-k", str(K8S / "overlays" / "local"))

    def _run(self) -> None:
        self.deploy(MANIFESTS / "two-pods")
        with neighbours.running(self.kubectl):
            self.findings.wrong_edges = wrong_edges(self.kubectl)
        self.callers.make_place()
        self.kubectl("label", "namespace", NAMESPACE, "glimpse/may-search=true")
        self.disturb([self.rest, self.replace_pods, self.replace_encoder])

    def tell(self, what: str) -> None:
        """For people who wait."""
        say(f"{(time.monotonic() - self._begun_s) / 60:5.1f} min  {what}")

    def deploy(self, overlay: Path) -> None:
        """And again, to see what changes."""
        self.tell(f"deploying {overlay.name}")
        self.kubectl("apply", "-k", str(overlay))
        self.findings.changed_lines += self.changed_lines(overlay)
        self.await_deployed()

    def changed_lines(self, overlay: Path) -> list[str]:
        """What applying once more changes. Budgets are said to, and do not: test_applying.py."""
        lines = self.kubectl("apply", "-k", str(overlay)).splitlines()
        budgets = "poddisruptionbudget."
        return [line for line in lines if not line.endswith(" unchanged") and budgets not in line]

    def await_deployed(self) -> None:
        self.tell("waiting for pods")
        try:
            for name in _SERVICES:
                self.disturbances.await_settled(name)
        except TimeoutError:
            say(self.kubectl("get", "pods,events", "--all-namespaces"))
            raise

    def disturb(self, steps: Sequence[Callable[[], None]]) -> None:
        """The callers' place is there; the steps are done while they call."""
        try:
            self.callers.start()
            with contextlib.ExitStack() as at_last:
                at_last.callback(self._take_down)
                for step in steps:
                    step()
        finally:
            self.callers.remove()

    def during(self, name: str, disturb: Callable[[], None]) -> None:
        """Notes when that was."""
        self.tell(f"replacing {name}")
        begun_s = time.time()
        try:
            disturb()
        finally:
            self._spans[name] = begun_s, time.time()

    def _take_down(self) -> None:
        """What callers wrote, also where something has failed."""
        self.tell("asking the callers")
        self.callers.stop()
        findings, callers = self.findings, self.callers
        findings.calls = {name: callers.between(*span) for name, span in self._spans.items()}
        findings.late = [c for span in self._back for c in callers.between(*span) if c.error]
        findings.acknowledged = callers.acknowledged
        findings.wrong_pictures = callers.wrong_pictures

    def rest(self) -> None:
        stacks.wait_until_idle(_BEFORE_CALM_S)
        self.during(CALM, lambda: time.sleep(_CALM_S))

    def replace_pods(self) -> None:
        """Query and indexer side by side."""
        options, pods = self.options, self.disturbances

        def disturb_query() -> None:
            self.repeat(options.roll_outs, pods.roll_out, "query")
            self.repeat(options.drains, pods.drain, "query")
            self.repeat(options.scale_downs, pods.scale_down, "query")
            pods.await_settled("query")

        def disturb_indexer() -> None:
            self.repeat(options.indexer_roll_outs, pods.roll_out, "indexer")
            self.repeat(options.kills, pods.kill, "indexer")
            pods.await_settled("indexer")

        def disturb() -> None:
            with ThreadPoolExecutor(2) as pool:
                for each in [pool.submit(disturb_query), pool.submit(disturb_indexer)]:
                    each.result()
            time.sleep(BACK_S)  # callers may still know those that have gone

        self.during(PODS, disturb)

    def replace_encoder(self) -> None:
        def disturb() -> None:
            for number in range(self.options.encoder_roll_outs):
                self.disturbances.roll_out("encoder")
                self.tell(f"roll_out of encoder: {number + 1} of {self.options.encoder_roll_outs}")
                back_s = time.time() + BACK_S
                time.sleep(BACK_S + 10)
                self._back.append((back_s, time.time()))

        if self.options.encoder_roll_outs:
            self.during(ENCODER, disturb)

    def repeat(self, times: int, disturb: Callable[[str], None], name: str) -> None:
        for number in range(times):
            disturb(name)
            self.tell(f"{disturb.__name__} of {name}: {number + 1} of {times}")


def milvus_is_ready(kubectl: Kubectl) -> None:
    """Says what Milvus operator would, once what stands for Milvus is there."""
    place = "--namespace=glimpse-milvus"
    kubectl("rollout", "status", "deployment/glimpse-milvus", place, "--timeout=5m", timeout_s=310)
    status = {"status": {"conditions": [{"type": "MilvusReady", "status": "True"}]}}
    merge = ("--subresource=status", "--type=merge", "--patch", json.dumps(status))
    kubectl("patch", "milvus/glimpse", place, *merge)
