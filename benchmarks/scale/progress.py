"""What a run has done so far, kept in a file after each step, and what is left of it, told."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from glimpse.cli.console import say
from glimpse.cli.index_progress import duration


class Progress:
    """Results by the names of steps. A run with the same options goes on behind them."""

    def __init__(self, path: Path, options: dict[str, Any], steps: list[str]) -> None:
        self._path = path
        self._steps = steps
        self._began_s = time.monotonic()
        self.results: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}
        self._options = options
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        self.goes_on = kept.get("options") == options
        if self.goes_on:
            self.results, self.seconds = kept["results"], kept["seconds"]

    def is_done(self, step: str) -> bool:
        """Whether it was ended, in this run or one before it."""
        return step in self.seconds

    def begin(self, step: str, what: str) -> float:
        """Tells of a step; when it began."""
        say(f"[{self._steps.index(step) + 1} of {len(self._steps)}] {what} ...")
        return time.monotonic()

    def end(self, step: str, began_s: float, result: dict[str, Any]) -> None:
        """Keeps what a step has found."""
        self.results[step] = result
        self.seconds[step] = round(time.monotonic() - began_s, 1)
        self.keep()
        say(f"    done in {duration(self.seconds[step])}")

    def keep(self) -> None:
        """Writes the file, whole or not at all."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        content = {"options": self._options, "results": self.results, "seconds": self.seconds}
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps(content), encoding="utf-8")
        temporary.replace(self._path)

    def forget(self) -> None:
        """For a run that has come to its end."""
        self._path.unlink(missing_ok=True)
