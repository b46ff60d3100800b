"""Replaces pods of a real cluster under load, and counts what callers in it see fail.

    python -m tests.cluster [--context kind-glimpse]

Without a context, the cluster is one of our own: a control plane and a node in namespaces of this
machine, with Milvus Lite in the place of Milvus. With one, it is whatever cluster kubectl knows by
that name, with Milvus operator and the images in it (docs/kubernetes.md). Either gets
overlays/local with two pods of query and indexer each. Writes build/bench/cluster.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import machine, stacks
from benchmarks.report import Report
from glimpse.cli.console import say
from tests.cluster import images, isolation, neighbours, node, toolchain, tour
from tests.cluster.callers import Callers
from tests.cluster.control_plane import ControlPlane, started
from tests.cluster.disturbances import Disturbances
from tests.cluster.figures import BACK_S, Findings
from tests.cluster.kubectl import Kubectl
from tests.cluster.reach import wrong_edges

MANIFESTS = Path(__file__).parent / "manifests"
COUNTS = {"encoder": 1, "indexer": 2, "query": 2}

_LAST_LINES = 30
_CALM_S = 30.0  # what calls take while nothing is replaced

Span = tuple[float, float]  # of the clock


@contextlib.contextmanager
def own_cluster(folder: Path) -> Iterator[Kubectl]:
    """A cluster within namespaces of its own. Raises Unavailable."""
    isolation.prepare(folder)
    plane_folder = folder / "plane"
    plane_folder.mkdir()
    try:
        with started(plane_folder, "0.0.0.0") as plane, node.joined(plane, folder):
            _provide(plane, folder)
            yield plane.kubectl
    except toolchain.Unavailable:
        raise
    except BaseException:
        _show_logs(folder)
        raise


def _provide(plane: ControlPlane, folder: Path) -> None:
    """What the manifests want to be there."""
    weights, pictures = folder / "weights", folder / "pictures"
    for each in (weights, pictures):
        each.mkdir()
    weights.chmod(0o777)
    tour.draw(pictures)
    plane.offer_volumes(1, str(weights))
    packages = sysconfig.get_path("purelib")
    for volume in (
        _volume("glimpse", "packages", packages),
        _volume("glimpse-milvus", "packages", packages),
        _volume("glimpse", "pictures", str(pictures)),
    ):
        plane.kubectl("create", "-f", "-", given=json.dumps(volume))
    config = plane.kubeconfig("admin", isolation.ADDRESS)
    secret = ("create", "secret", "generic", "coredns", "--namespace=kube-system")
    plane.kubectl(*secret, f"--from-file=kubeconfig={config}")


def _volume(namespace: str, claim: str, folder: str) -> dict[str, object]:
    """A folder of this machine for one claim, to be read."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{namespace}-{claim}"},
        "spec": {
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": "folder",
            "claimRef": {"namespace": namespace, "name": claim},
            "hostPath": {"path": folder},
        },
    }


def _show_logs(folder: Path) -> None:
    """The last lines of each program, which go with the folder."""
    for log in sorted(folder.rglob("log.txt")):
        lines = log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
        print(f"{log.parent.name}:", *lines, sep="\n  ", file=sys.stderr)


def run(kubectl: Kubectl, overlay: Path, options: argparse.Namespace) -> Findings:
    """Deploys, and disturbs what is deployed."""
    findings = Findings(changed_lines=apply_twice(kubectl, overlay))
    disturbances = Disturbances(kubectl)
    say("Waiting for pods ...")
    try:
        for name, count in COUNTS.items():
            disturbances.await_settled(name, count)
    except TimeoutError:
        print(kubectl("get", "pods,events", "--all-namespaces"), file=sys.stderr)
        raise
    with neighbours.running(kubectl):
        if not options.context:
            findings.missing_pictures = tour.missing_pictures(kubectl)
        findings.wrong_edges = wrong_edges(kubectl)
    callers = Callers(kubectl)
    callers.remove()
    try:
        callers.start()
        disturbed, back = measure(disturbances, options)
        callers.stop()
    finally:
        callers.remove()
    findings.calls = {name: callers.between(*span) for name, span in disturbed.items()}
    findings.late = [call for span in back for call in callers.between(*span) if call.error]
    findings.acknowledged = callers.acknowledged
    findings.wrong_pictures = callers.wrong_pictures
    return findings


def apply_twice(kubectl: Kubectl, overlay: Path) -> list[str]:
    """Deploys; what changes when that is done again. Budgets are said to, and do not:
    tests/cluster/test_api.py."""
    kubectl("apply", "-k", str(overlay))
    lines = kubectl("apply", "-k", str(overlay)).splitlines()
    budgets = "poddisruptionbudget."
    return [line for line in lines if not line.endswith(" unchanged") and budgets not in line]


def measure(
    disturbances: Disturbances, options: argparse.Namespace
) -> tuple[dict[str, Span], list[Span]]:
    """When what was disturbed, and when the encoder had been back for long enough.

    Query and indexer are disturbed side by side, the encoder after them.
    """

    def disturb_query() -> None:
        repeat(options.roll_outs, disturbances.roll_out, "query")
        repeat(options.evictions, disturbances.evict, "query")
        repeat(options.scale_downs, disturbances.scale_down, "query")

    def disturb_indexer() -> None:
        repeat(options.indexer_roll_outs, disturbances.roll_out, "indexer")
        repeat(options.kills, disturbances.kill, "indexer")

    calm_s = time.time()
    time.sleep(_CALM_S)
    say("Replacing pods of query and indexer ...")
    begun_s = time.time()
    with ThreadPoolExecutor(2) as pool:
        for each in [pool.submit(disturb_query), pool.submit(disturb_indexer)]:
            each.result()
    # Callers may still know those that have gone.
    time.sleep(BACK_S)
    ended_s = time.time()
    say("Replacing the encoder's pod ...")
    back: list[Span] = []
    for _ in range(options.encoder_roll_outs):
        disturbances.roll_out("encoder")
        back_s = time.time() + BACK_S
        time.sleep(BACK_S + 10)
        back.append((back_s, time.time()))
    spans = {
        "nothing": (calm_s, begun_s),
        "query and indexer": (begun_s, ended_s),
        "encoder": (ended_s, time.time()),
    }
    return spans, back


def repeat(times: int, disturb: Callable[[str], None], name: str) -> None:
    for number in range(times):
        disturb(name)
        say(f"{disturb.__name__} of {name}: {number + 1} of {times}")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster")
    parser.add_argument("--context", help="of a cluster that kubectl knows; default: our own")
    parser.add_argument("--roll-outs", type=int, default=10, help="of query")
    parser.add_argument("--evictions", type=int, default=5, help="of query pods")
    parser.add_argument("--scale-downs", type=int, default=5, help="of query")
    parser.add_argument("--indexer-roll-outs", type=int, default=5)
    parser.add_argument("--kills", type=int, default=5, help="of indexer pods")
    parser.add_argument("--encoder-roll-outs", type=int, default=5)
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """0 where every bar is met, UNAVAILABLE where there can be no cluster."""
    options = parse(arguments)
    stacks.end_on_sigterm()
    folder = isolation.folder()
    try:
        if options.context:
            kubectl = Kubectl(toolchain.kubectl(), f"--context={options.context}")
            return report(run(kubectl, MANIFESTS / "two-pods", options), options)
        if folder is None:
            images.check()
            if isolation.has_other_kubelet():
                raise toolchain.Unavailable("a kubelet runs on this machine, and one is enough")
            return isolation.run_inside("tests.cluster", arguments)
        with own_cluster(folder) as kubectl:
            return report(run(kubectl, MANIFESTS / "node", options), options)
    except toolchain.Unavailable as error:
        print(error, file=sys.stderr)
        return toolchain.UNAVAILABLE


def report(findings: Findings, options: argparse.Namespace) -> int:
    """Written down; the exit code."""
    target = f"cluster-test CONTEXT={options.context}" if options.context else "cluster-pods"
    report = Report("cluster", f"make {target}", machine.describe())
    report.figures = findings.figures(options)
    report.details = findings.details() | {"options": vars(options)}
    report.write(stacks.OUTPUT / "cluster.json")
    print(report.table())
    return 0 if all(figure.is_met is not False for figure in report.figures) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
