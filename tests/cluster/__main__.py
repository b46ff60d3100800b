"""Replaces pods of a real cluster under load, and counts what callers in it see fail.

    python -m tests.cluster [--context kind-glimpse]

Without a context, the cluster is one of our own: a control plane and a node in namespaces of this
machine, with Milvus Lite in the place of Milvus; certificates and tokens come with it. With one, it
is whatever cluster kubectl knows by that name, with Milvus operator and the images in it
(docs/kubernetes.md). Either gets overlays/local with two pods of query and indexer each. Writes
build/bench/cluster.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from benchmarks import machine, stacks
from benchmarks.report import Report
from tests.cluster import images, isolation, node, toolchain, tour
from tests.cluster.control_plane import ControlPlane, started
from tests.cluster.course import Course
from tests.cluster.kubectl import Kubectl
from tests.cluster.own_course import OwnCourse

_LAST_LINES = 30


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


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster")
    parser.add_argument("--context", help="of a cluster that kubectl knows; default: our own")
    parser.add_argument("--roll-outs", type=int, default=10, help="of query")
    parser.add_argument("--drains", type=int, default=5, help="of the node with query's pods")
    parser.add_argument("--scale-downs", type=int, default=5, help="of query")
    parser.add_argument("--indexer-roll-outs", type=int, default=5)
    parser.add_argument("--kills", type=int, default=5, help="of indexer pods")
    parser.add_argument("--encoder-roll-outs", type=int, default=5)
    parser.add_argument("--control-roll-outs", type=int, default=5, help="of query, without drain")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """0 where every bar is met, UNAVAILABLE where there can be no cluster."""
    options = parse(arguments)
    stacks.end_on_sigterm()
    folder = isolation.folder()
    try:
        if options.context:
            kubectl = Kubectl(toolchain.kubectl(), f"--context={options.context}")
            return carry_out(Course(kubectl, options), options)
        if folder is None:
            images.check()
            if isolation.has_other_kubelet():
                raise toolchain.Unavailable("a kubelet runs on this machine, and one is enough")
            return isolation.run_inside("tests.cluster", arguments)
        with own_cluster(folder) as kubectl:
            return carry_out(OwnCourse(kubectl, options, folder / "reader"), options)
    except toolchain.Unavailable as error:
        print(error, file=sys.stderr)
        return toolchain.UNAVAILABLE


def carry_out(course: Course, options: argparse.Namespace) -> int:
    """Runs it, and writes down what came of it, also where it was broken off; the exit code."""
    target = f"cluster-test CONTEXT={options.context}" if options.context else "cluster-pods"
    report = Report("cluster", f"make {target}", machine.describe())
    try:
        course.run()
    finally:
        report.figures = course.findings.figures(options)
        report.details = course.findings.details() | {"options": vars(options)}
        report.write(stacks.OUTPUT / "cluster.json")
        print(report.table())
    return 0 if all(figure.is_met is not False for figure in report.figures) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
