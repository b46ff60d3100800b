"""kubectl, which does what people do: as a callable, for the one cluster that it was told of."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from typing import Any

# It reads the server's types and ends: a fifth of that was collecting garbage on the way.
_SELDOM_COLLECTED = {"GOGC": "400"}


class Refused(Exception):
    """What kubectl said when it failed."""


class Kubectl:
    """`options` stand before all words, and `environment` is beside that of this process."""

    def __init__(
        self, program: str, *options: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.program = program
        self.environment = os.environ | _SELDOM_COLLECTED | dict(environment or {})
        self._command = [program, *options]

    def __call__(self, *words: str, given: str = "", timeout_s: float = 120.0) -> str:
        """What it wrote. Raises Refused."""
        process = self.popen(*words)
        try:
            said, complained = process.communicate(given, timeout_s)
        finally:
            process.kill()
        if process.returncode != 0:
            raise Refused(f"kubectl {' '.join(words)}: {complained}{said}")
        return said

    def popen(self, *words: str) -> subprocess.Popen[str]:
        """One that runs."""
        return subprocess.Popen(
            [*self._command, *words],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def get(self, *words: str) -> dict[str, Any]:
        """What `kubectl get` gives."""
        return json.loads(self("get", *words, "--output=json"))
