"""What a run has done so far, kept in a file after each step, and what is left of it, told."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from glimpse.cli.console import say
from glimpse.cli.index_progress import duration


class Progress:
    """Results by the names of steps; `expected_s` is about how long each takes. A run over the same
    `rows_of`, which say what is in the store, goes on behind them."""

    def __init__(
        self, path: Path, rows_of: Mapping[str, Any], expected_s: Mapping[str, float]
    ) -> None:
        self._path = path
        self._rows_of = dict(rows_of)
        self._expected_s = expected_s
        self.results: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        self.goes_on = kept.get("rows_of") == self._rows_of
        self.others: dict[str, Any] | None = None if self.goes_on else kept.get("rows_of")
        """Where it is not this one's: what an interrupted run has left in the store."""
        if self.goes_on:
            self.results, self.seconds = kept["results"], kept["seconds"]

    def is_done(self, step: str) -> bool:
        """Whether it was ended, in this run or one before it."""
        return step in self.seconds

    def repeat(self, steps: Iterable[str]) -> None:
        """Has them be done once more."""
        for step in steps:
            self.seconds.pop(step, None)

    def begin(self, step: str, what: str, asked: Iterable[str]) -> float:
        """Tells of a step, and of the time that those asked for will take; when it began."""
        left_s = sum(self._expected_s[each] for each in asked if not self.is_done(each))
        number = list(self._expected_s).index(step) + 1
        step_s = self._expected_s[step]
        end = time.strftime("%H:%M", time.localtime(time.time() + left_s))
        say(
            f"[{number} of {len(self._expected_s)}] {what}: about {duration(step_s)}; "
            f"{duration(left_s)} left, until {end} ..."
        )
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
        content = {"rows_of": self._rows_of, "results": self.results, "seconds": self.seconds}
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps(content), encoding="utf-8")
        temporary.replace(self._path)

    def forget(self) -> None:
        """For a run that has come to its end."""
        self._path.unlink(missing_ok=True)
