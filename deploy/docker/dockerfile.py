"""A Dockerfile's instructions, as far as glimpse's use them."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Instruction:
    """One instruction: its name in capitals, and the rest of it on one line."""

    name: str
    text: str


@dataclass
class Stage:
    """The instructions from one FROM to the next."""

    name: str
    image: str
    instructions: list[Instruction] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What its ENV instructions set."""
        values = {}
        for instruction in self.instructions:
            if instruction.name == "ENV":
                pairs = (pair.partition("=") for pair in shlex.split(instruction.text))
                values |= {name: value for name, _, value in pairs}
        return values

    @property
    def command(self) -> list[str]:
        """What CMD starts."""
        return next(json.loads(item.text) for item in self.instructions if item.name == "CMD")


def read(path: Path) -> list[Stage]:
    """The stages of the file, the last one being the image. Raises ValueError."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
    text = re.sub(r"\\\n\s*", "", text)
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for line in filter(str.strip, text.splitlines()):
        name, _, rest = line.partition(" ")
        if name == "ARG":
            key, _, value = rest.partition("=")
            arguments[key] = value
        elif name == "FROM":
            image, _, stage = rest.partition(" AS ")
            for key, value in arguments.items():
                image = image.replace(f"${{{key}}}", value)
            stages.append(Stage(stage, image))
        elif name in ("RUN", "COPY", "ENV", "WORKDIR", "USER", "CMD") and stages:
            stages[-1].instructions.append(Instruction(name, rest))
        else:
            raise ValueError(f"{path}: {line!r} is not understood")
    return stages
