"""What the project takes from elsewhere, and what it never does with what it is given."""

from __future__ import annotations

import ast
import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
CODE = ("services", "glimpse", "demo", "benchmarks", "deploy", "examples")
NEVER = {
    "S102": "exec(text)",
    "S307": "eval(text)",
    "S301": "import pickle\npickle.loads(text)",
    "S506": "import yaml\nyaml.load(text)",
    "S602": "import subprocess\nsubprocess.run(text, shell=True)",
    "S605": "import os\nos.system(text)",
}


def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def project() -> dict:
    return pyproject()["project"]


def ruff(*arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "ruff"), "check", *arguments]
    return subprocess.run(command, cwd=ROOT, input=given, capture_output=True, text=True)


@pytest.mark.parametrize("rule", NEVER)
@pytest.mark.parametrize("folder", CODE)
def test_lint_refuses_what_would_run_foreign_data(folder, rule):
    refused = ruff("--stdin-filename", f"{folder}/new.py", "-", given=f"text = ''\n{NEVER[rule]}\n")
    assert f"{rule} " in refused.stdout


def test_nothing_in_the_code_is_exempt_from_that_but_the_reader_of_weights():
    # It takes an archive's listing with an unpickler that knows three names; see decision 0012.
    found = ruff("--ignore-noqa", "--output-format", "concise", "--select", ",".join(NEVER), *CODE)
    lines = [line for line in found.stdout.splitlines() if re.match(r"\S+:\d+:\d+:", line)]
    assert {line.partition(":")[0] for line in lines} <= {"services/encoder/torchscript.py"}


def test_weights_are_loaded_as_numbers_only():
    loads = [
        call
        for folder in CODE
        for path in (ROOT / folder).rglob("*.py")
        for call in re.findall(r"torch\.load\([^)]*\)", path.read_text())
    ]
    assert loads
    assert all("weights_only=True" in call for call in loads)


def test_services_import_nothing_that_the_wheel_leaves_out():
    """Their images have the wheel, not the checkout."""
    left_out = tuple(pyproject()["tool"]["setuptools"]["packages"]["find"]["exclude"])
    imported = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / "services").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in imported_by(node)
        if name.startswith(left_out)
    ]
    assert left_out
    assert imported == []


def imported_by(node):
    if isinstance(node, ast.Import):
        return [each.name for each in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{each.name}" for each in node.names]
    return []


def test_every_dependency_is_pinned_to_one_version():
    lists = [
        project()["dependencies"],
        *project()["optional-dependencies"].values(),
        *pyproject()["dependency-groups"].values(),
    ]
    named = {
        re.split(r"[\[;<>=! ]", dependency)[0].lower()
        for dependency in itertools.chain(*lists)
        if isinstance(dependency, str)  # the others include a group
    }
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.match(r"[a-z0-9._-]+==[^\s;]+( ;|$)", line) for line in lines)
    assert named <= {line.partition("==")[0] for line in lines}


def test_the_licence_that_is_named_is_there():
    assert project()["license"] == "Apache-2.0"
    (name,) = project()["license-files"]
    assert "Apache License" in (ROOT / name).read_text()
