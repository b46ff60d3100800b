"""What is odd about the environment and the disk that a stack is to run with, in sentences; whether
it runs with them is its own affair."""

from __future__ import annotations

import difflib
import os
import subprocess
import sys
from collections.abc import Iterator

import typer

from glimpse.cli.commands import COMMANDS, app
from glimpse.cli.local.stack import Stack

_LITTLE_BYTES = 512 * 2**20  # as INDEXER_MIN_FREE_BYTES
_FOR_TESTS = "GLIMPSE_TEST_"


def lines(stack: Stack) -> Iterator[str]:
    """Variables that mean nothing, or nothing to this stack; a disk that is nearly full."""
    yield from _misspelt()
    yield from _no_settings(stack)
    for name in stack.overruled():
        yield f"{name} is not taken from the environment: glimpse up chooses it"
    if (free_bytes := stack.free_bytes()) < _LITTLE_BYTES:
        yield (
            f"only {free_bytes / 1e6:,.0f} MB are free in {stack.options.data}: where Milvus Lite "
            f"writes, nothing is indexed below {_LITTLE_BYTES / 1e6:,.0f} MB (or "
            "INDEXER_MIN_FREE_BYTES)"
        )


def _misspelt() -> Iterator[str]:
    """Of this command's own variables."""
    group = typer.main.get_command(app())
    commands = [group, *(group.get_command(None, name) for name in COMMANDS)]  # type: ignore[attr-defined]
    known = {"GLIMPSE_DEBUG", *(str(each.envvar) for of in commands for each in of.params)}
    for name in sorted(os.environ.keys() - known):
        if name.startswith("GLIMPSE_") and not name.startswith(_FOR_TESTS):
            nearest = difflib.get_close_matches(name, known, 1)
            meant = f": is {nearest[0]} meant?" if nearest else ""
            yield f"{name} means nothing to glimpse{meant}"


def _no_settings(stack: Stack) -> list[str]:
    """Of the services' variables; they themselves say so in their logs."""
    command = [sys.executable, "-m", "services.check_settings"]
    done = subprocess.run(command, env=stack.environment, capture_output=True, text=True)
    return done.stdout.splitlines()
