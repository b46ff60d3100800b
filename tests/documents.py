"""What README.md and other pages tell people to type; running and judging it is the tests' job."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
LOAD = ROOT / "tests" / "load" / "README.md"
PAGES = (
    README,
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    LOAD,
    ROOT / "deploy" / "k8s" / "README.md",
    ROOT / "demo" / "model" / "MODEL_CARD.md",
)
QUERY = "127.0.0.1:50053"
"""Where the pages say that the query service is."""

_FENCE = re.compile(r"^ {0,3}```(\w*)")
_SHELLS = ("sh", "bash", "shell", "console")
_DATA = re.compile(r"- |[\w/]+:( |$)|[\w/]+ += ")  # YAML, and formulas
_STEPS = re.compile(r"(?:&&|\|\||[;|&])$")
_INDENT = "    "


@dataclass(frozen=True)
class Typed:
    """One command of a page's shell block: its words, without what a `#` says about it."""

    page: Path
    line: int
    words: list[str]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}: {shlex.join(self.words)}"


@dataclass(frozen=True)
class Grpcurl:
    """A line that calls grpcurl: its words, what stands after the address, and the request."""

    words: list[str]
    asked: list[str]
    request: dict[str, Any]


def typed(page: Path) -> Iterator[Typed]:
    """The commands of a page's blocks for a shell, in their order; some take several lines."""
    for lines in _blocks(page):
        begun, first = "", 0
        for number, text in [] if _DATA.match(lines[0][1]) else lines:
            first = first if begun else number
            begun += text
            if begun.endswith("\\"):
                begun = begun[:-1]
                continue
            try:
                words = shlex.split(begun, comments=True)
            except ValueError:  # a quotation goes on in the next line
                begun += " "
                continue
            begun = ""
            yield from (Typed(page, first, step) for step in _steps(words))


def mentioned(page: Path) -> Iterator[Typed]:
    """Commands within a page's text, such as `make load`."""
    for number, line in enumerate(page.read_text().splitlines(), 1):
        for found in re.findall(r"`((?:glimpse|make) [a-z][^`]*)`", line):
            yield Typed(page, number, shlex.split(found, comments=True))


def _blocks(page: Path) -> Iterator[list[tuple[int, str]]]:
    """The lines of each block that is indented, or fenced as a shell's; with their numbers."""
    fence, block = "", []
    lines = page.read_text().splitlines()
    for number, (before, line) in enumerate(zip(["", *lines], [*lines, ""], strict=True), 1):
        found = _FENCE.match(line)
        if found:
            fence = "" if fence else found[1] or "text"
        # Within a list, an indented line goes on with its item unless a blank one precedes it.
        indented = not fence and line.startswith(_INDENT) and bool(block or not before.strip())
        if not found and (indented or fence in _SHELLS):
            block.append((number, line.strip().removeprefix("$ ")))
        elif block:
            yield block
            block = []


def _steps(words: list[str]) -> Iterator[list[str]]:
    """What `a && b` and `a; b` do, one after the other."""
    step: list[str] = []
    for word in words:
        ends = _STEPS.search(word)
        rest = word[: ends.start()] if ends else word
        step += [rest] if rest else []
        if ends and step:
            yield step
            step = []
    if step:
        yield step


def grpcurl_lines() -> list[Grpcurl]:
    """README.md's calls of grpcurl, in their order."""
    found = []
    for command in typed(README):
        words = command.words
        if words[:1] == ["grpcurl"]:
            request = json.loads(words[words.index("-d") + 1]) if "-d" in words else {}
            found.append(Grpcurl(words, words[words.index(QUERY) + 1 :], request))
    return found


def python_blocks() -> list[str]:
    """README.md's programs in Python."""
    return re.findall(r"^```python\n(.*?)^```", README.read_text(), re.M | re.S)
