"""What README.md tells people to type; running it is the tests' job."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
QUERY = "127.0.0.1:50053"
"""Where README.md says that the query service is."""


@dataclass(frozen=True)
class Grpcurl:
    """A line that calls grpcurl: its words, what stands after the address, and the request."""

    words: list[str]
    asked: list[str]
    request: dict[str, Any]


def _commands() -> Iterator[list[str]]:
    """The words of each command in a shell block; some take several lines."""
    begun = ""
    for line in (ROOT / "README.md").read_text().splitlines():
        if not line.startswith("    "):
            begun = ""
            continue
        begun += line.strip()
        if begun.endswith("\\"):
            begun = begun[:-1]
            continue
        try:
            words = shlex.split(begun, comments=True)
        except ValueError:  # a quotation goes on in the next line
            begun += " "
            continue
        begun = ""
        yield words


def grpcurl_lines() -> list[Grpcurl]:
    """The calls of grpcurl, in their order."""
    found = []
    for words in _commands():
        if words[:1] == ["grpcurl"]:
            request = json.loads(words[words.index("-d") + 1]) if "-d" in words else {}
            found.append(Grpcurl(words, words[words.index(QUERY) + 1 :], request))
    return found


def python_blocks() -> list[str]:
    """The programs in Python."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
