"""What the pages tell people to type is there: programs, targets, options, files, methods, fields.

What can be run beside a stack is run by tests/e2e/test_stack.py.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator

import pytest
from google.protobuf import descriptor_pool, json_format, message_factory

from glimpse.cli.commands import LazyCommands
from glimpse.query.v1 import query_pb2
from tests.documents import PAGES, ROOT, Typed, grpcurl_lines, mentioned, python_blocks, typed

POOL = descriptor_pool.Default()
assert query_pb2.DESCRIPTOR.name  # importing it is what fills the pool

# Programs whose words are others' to define; the rest is looked at.
FOREIGN = {"do", "done", "for", "grpcurl", "helm", "kind", "milvus-backup", "openssl"}
FOREIGN |= {"pip", "source", "tail"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_has_people_type_is_there(page):
    commands = [*typed(page), *mentioned(page)]
    assert [problem for command in commands for problem in problems(command)] == []


def test_commands_are_found_at_all():
    found = [command.words for page in PAGES for command in typed(page)]
    assert ["make", "demo"] in found
    assert ["build/go/search", "a white dog"] in found, "behind the &&"
    assert ["glimpse", "search", "a white dog"] in found, "of docs/kubernetes.md"
    assert len(found) > 60


def problems(command: Typed) -> Iterator[str]:
    """What is wrong with a command, as far as it can be told without running it."""
    program, *words = command.words
    if program == "glimpse":
        found = _of_glimpse(words)
    elif program == "make":
        found = _of_make(words)
    elif program == "python":
        found = [] if importlib.util.find_spec(words[1]) else [f"no module {words[1]}"]
    elif program in ("kubectl", "docker", "kustomize", "cd"):
        found = [f"no {word}" for word in _paths(words) if not (ROOT / word).exists()]
    elif program in FOREIGN or re.match(r"build/go/|\w+=", program):  # built, or assigned
        found = []
    else:
        found = [f"nobody has said how {program} is checked"]
    for problem in found:
        yield f"{command}: {problem}"


def _of_glimpse(words: list[str]) -> Iterator[str]:
    command = LazyCommands()
    for word in words:
        if hasattr(command, "get_command"):
            command = command.get_command(None, word)
            if command is None:
                yield f"no command {word}"
                return
        elif word.startswith("-") and not any(word in each.opts for each in command.params):
            yield f"no option {word}"


def _of_make(words: list[str]) -> Iterator[str]:
    makefile = (ROOT / "Makefile").read_text()
    for word in words:
        name, is_variable, _ = word.partition("=")
        known = rf"\b{name}\b" if is_variable else rf"^([\w-]+ )*{re.escape(name)}( [\w-]+)*:"
        if not re.search(known, makefile, re.MULTILINE):
            yield f"make knows no {name}"


def _paths(words: list[str]) -> Iterator[str]:
    for word in words:
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)+", word) and word.split("/")[0] in ("deploy", "tests"):
            yield word


def test_grpcurl_lines_name_methods_and_fields_that_there_are():
    lines = grpcurl_lines()
    for line in lines:
        match line.asked:
            case ["list"]:
                assert not line.request
            case ["list" | "describe", name]:
                assert POOL.FindFileContainingSymbol(name)
            case [path]:
                service, _, method = path.partition("/")
                described = POOL.FindServiceByName(service).FindMethodByName(method)
                request = message_factory.GetMessageClass(described.input_type)
                assert json_format.ParseDict(line.request, request()).ByteSize() > 0
            case _:
                raise AssertionError(line.words)
    assert len(lines) >= 3


def test_python_programs_compile():
    blocks = python_blocks()
    for block in blocks:
        compile(block, "README.md", "exec")
    assert blocks
