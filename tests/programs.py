"""Programs that tests start and pip does not install: where they are, and how to get them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

BUILT = Path(__file__).resolve().parent.parent / "build" / "go"
"""Where `make` puts what it builds with Go."""


def search_path() -> str:
    """The PATH on which programs are looked for: what `make` has built comes first."""
    return os.pathsep.join([str(BUILT), os.environ.get("PATH", os.defpath)])


def find(name: str) -> str | None:
    """The program's path; None where it is not."""
    return shutil.which(name, path=search_path())


def missing(name: str) -> str:
    """How to get a program that was not found."""
    return (
        f"{name} is not here: where Go is, `make build/go/{name}` builds it; otherwise install it "
        "and put it on the PATH"
    )
