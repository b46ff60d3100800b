"""The source tree itself: a name means one thing in all of it, and pages fit into a window."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAX_COLUMNS = 120


def test_no_class_name_is_defined_twice() -> None:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for folder in ("glimpse", "services"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "_pb2" in path.name:  # generated: each contract has messages of its own
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    places[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert len(places) > 100
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_lines_of_documents_are_at_most_120_characters() -> None:
    folders = ("docs", "deploy", "tests", "examples", "demo", ".")
    pages = {
        page
        for folder in folders
        for page in (ROOT / folder).glob("*.md" if folder == "." else "**/*.md")
        if "node_modules" not in page.parts
    }
    wide = [
        f"{page.relative_to(ROOT)}:{number}"
        for page in sorted(pages)
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
        # Markdown cannot break the row of a table.
        if len(line) > MAX_COLUMNS and not line.startswith("|")
    ]
    assert len(pages) > 40
    assert wide == []
