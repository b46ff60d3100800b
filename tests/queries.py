"""The queries of dashboard and alerts, and what is wrong with one, given what was exported."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import grpc
import promql_parser
import yaml

from tests import operations
from tests.observed import Observed
from tests.robustness.messages import METHODS

_DEPLOY = operations.ROOT / "deploy"
# Those that Prometheus adds to every sample, as it finds the pods.
_ADDED = {"job", "instance", "namespace", "pod", "container", "endpoint"}
_NOT_OURS = {"up"}  # what Prometheus makes itself
_VARIABLES = {"$__rate_interval": "5m", "$namespace": "glimpse"}


def of_dashboard() -> Iterator[tuple[str, str]]:
    """Title and query of everything that the dashboard shows, its variables filled in."""
    dashboard = json.loads((_DEPLOY / "grafana" / "glimpse.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"]
            for name, value in _VARIABLES.items():
                query = query.replace(name, value)
            yield f"{panel['title']} {target['refId']}", query


def alerts() -> list[dict[str, Any]]:
    """All alerts."""
    rules = yaml.safe_load((_DEPLOY / "prometheus" / "alerts.yaml").read_text())
    return [rule for group in rules["spec"]["groups"] for rule in group["rules"]]


def problems(query: str, observed: Observed) -> list[str]:
    """What is wrong with a query: syntax, metrics, labels, the values that it compares."""
    try:
        tree = promql_parser.parse(query)
    except ValueError as error:
        return [f"{query}: {error}"]
    found: list[str] = []
    for selector in _nodes(tree, promql_parser.VectorSelector):
        found += _of_selector(selector, observed)
    for grouped in _nodes(tree, promql_parser.AggregateExpr):
        labels = set(grouped.modifier.labels) if grouped.modifier is not None else set()
        names = {each.name for each in _nodes(grouped.expr, promql_parser.VectorSelector)}
        for label in sorted(labels - _ADDED - {"le"}):
            for name in sorted(names - _NOT_OURS):
                if label not in observed.labels(name):
                    found.append(f"{name} has no label {label}")
    return found


def _nodes(tree: Any, kind: type) -> list[Any]:
    """The parts of a query that are of a kind."""
    found: list[Any] = []

    def visit(node: Any) -> None:
        if isinstance(node, kind):
            found.append(node)

    promql_parser.walk(tree, visit)
    return found


def _of_selector(selector: Any, observed: Observed) -> Iterator[str]:
    name = selector.name
    if name in _NOT_OURS:
        return
    if name not in observed.names:
        yield f"{name} is not exported"
        return
    exported = observed.labels(name)
    for matcher in selector.matchers.matchers:
        if matcher.name in _ADDED:
            continue
        if matcher.name not in exported:
            yield f"{name} has no label {matcher.name}"
            continue
        known = exported[matcher.name] | _possible(matcher.name)
        for value in matcher.value.split("|"):
            if not any(re.fullmatch(value, each) for each in known):
                yield f"{name}: no {matcher.name} is {value!r}"


def _possible(label: str) -> set[str]:
    """Values that a label may have, though they were not seen."""
    if label == "code":
        return {code.name for code in grpc.StatusCode}
    if label == "method":
        return {method.path for method in METHODS}
    if label == "reason":
        return {"CANCELLED", *operations.reasons()}
    return set()
