"""docs/operations.md as data, and what the code says that it must hold; judging is tests' job."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator

from google.rpc import code_pb2

from docs.generate import OPERATIONS
from glimpse import errors
from glimpse.transport.status import code_of
from services.vectors.milvus import errors as milvus_errors

ROOT = OPERATIONS.parents[1]
_REASON = re.compile(r"[A-Z][A-Z0-9_]+")
_KINDS = {
    name: kind
    for module in (errors, milvus_errors)
    for name, kind in vars(module).items()
    if isinstance(kind, type) and issubclass(kind, errors.GlimpseError)
}

_LOCAL = (errors.UnreadableFile, errors.UnusableCredentials)


def text() -> str:
    """The manual."""
    return OPERATIONS.read_text()


def rows(title: str) -> list[list[str]]:
    """The cells of all tables below a heading, up to the next one of its rank, heads left out."""
    section = re.split(r"^## ", text(), flags=re.MULTILINE)
    (found,) = [each for each in section if each.startswith(f"{title}\n")]
    lines = [line for line in found.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [row for row in cells if row[0].startswith("`")]


def metrics() -> dict[str, set[str]]:
    """The metrics that the manual lists, with their labels."""
    return {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[1])) for row in rows("Metrics")}


def reasons() -> dict[str, set[str]]:
    """The reasons that the manual lists, with the status codes that it names for them."""
    found: dict[str, set[str]] = {}
    for row in rows("Errors"):
        for reason in re.findall(r"`(\w+)`", row[0]):
            assert reason not in found, f"{reason} stands twice"
            found[reason] = set(re.findall(r"[A-Z_]{4,}", row[1]))
    return found


def anchors() -> set[str]:
    """What a link may point at: each heading as Markdown on the web names it."""
    headings = re.findall(r"^#+ (.+)$", text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def reasons_in_code() -> dict[str, set[str]]:
    """Every reason that the sources give an error, with the codes of the classes that bear it."""
    constants: dict[str, str] = {}
    trees = [
        ast.parse(path.read_text())
        for folder in ("services", "glimpse")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "_pb2" not in path.name
    ]
    for tree in trees:
        constants |= dict(_constants(tree))
    found: defaultdict[str, set[str]] = defaultdict(set)
    for kind in _KINDS.values():
        found[kind.reason] |= _codes(kind)
    for tree in trees:
        for call in ast.walk(tree):
            if isinstance(call, ast.Call):
                for reason in _given(call, constants):
                    name = ast.unparse(call.func).rpartition(".")[2]
                    found[reason] |= _codes(_KINDS[name]) if name in _KINDS else set()
    return dict(found)


def _codes(kind: type[errors.GlimpseError]) -> set[str]:
    """The code that an error's class travels as; none for what never leaves the client."""
    return set() if issubclass(kind, _LOCAL) else {code_pb2.Code.Name(code_of(kind))}


def _constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            for target in statement.targets:
                if isinstance(target, ast.Name) and isinstance(statement.value.value, str):
                    yield target.id, statement.value.value


def _given(call: ast.Call, constants: dict[str, str]) -> Iterator[str]:
    """What a call may pass as `reason`."""
    for keyword in call.keywords:
        if keyword.arg != "reason":
            continue
        for node in ast.walk(keyword.value):
            value = None
            if isinstance(node, ast.Constant):
                value = node.value
            elif isinstance(node, (ast.Name, ast.Attribute)):
                value = constants.get(ast.unparse(node).rpartition(".")[2])
            if isinstance(value, str) and _REASON.fullmatch(value):
                yield value
