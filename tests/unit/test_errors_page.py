"""docs/errors.md has the classes and reasons that the code has, and its example runs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from google.rpc import code_pb2

import glimpse
from glimpse import errors
from glimpse.transport import diagnosis, status

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "errors.md").read_text()
LOCAL = (errors.UnreadableFile, errors.UnusableCredentials)


def rows(title: str) -> list[list[str]]:
    section = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in lines]


def test_the_tree_on_the_page_is_that_of_the_code_and_can_be_imported_from_glimpse():
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ]
    described = {name: (base, code) for name, base, code, *_ in rows("The tree")}
    assert described.keys() == {kind.__name__ for kind in kinds}
    for kind in kinds:
        base, code = described[kind.__name__]
        assert getattr(glimpse, kind.__name__) is kind
        if kind is errors.GlimpseError:
            continue
        assert kind.__base__ is not None
        assert base == kind.__base__.__name__
        expected = "none" if kind in LOCAL else code_pb2.Code.Name(status.code_of(kind))
        assert code == expected


def test_the_reasons_of_connections_are_those_of_the_code():
    found = {row[0] for row in rows("When nobody answers")}
    sources = [Path(module.__file__ or "").read_text() for module in (diagnosis, status)]
    given = {reason for text in sources for reason in re.findall(r'reason="([A-Z_]+)"', text)}
    assert found == given


def test_attributes_on_the_page_are_those_that_errors_have():
    error = errors.InvalidInput("text", "is wrong")
    for name in re.findall(r"^- `(\w+)`: ", PAGE, re.MULTILINE):
        assert hasattr(error, name)


def test_the_example_names_what_there_is():
    (program,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "glimpse":
            assert hasattr(glimpse, node.attr)
