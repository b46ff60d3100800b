"""Progress of steps: a bar on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from glimpse.cli.console import say

_PLAIN_EVERY_S = 5.0


class Counter:
    """Progress of `total` steps, which may become known on the way: None until then."""

    def __init__(self, label: str, total: int | None, unit: str) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._done = 0
        self._started_s = self._said_s = time.monotonic()

    def __enter__(self) -> Counter:
        self._started_s = self._said_s = time.monotonic()
        if self._console.is_terminal:
            self._task = self._progress.add_task(self._label, total=self._total, rate="", note="")
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._progress.stop()
        if error is not None and self._done:
            say(f"{self._label}: stopped at {self._so_far} {self._unit}")

    @property
    def is_seen(self) -> bool:
        """Whether there is a terminal to show a bar on."""
        return self._console.is_terminal

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started_s

    @property
    def per_second(self) -> float:
        """Steps per second since the start."""
        return self._done / max(self.seconds, 1e-9)

    @property
    def _so_far(self) -> str:
        return f"{self._done:,}" + (f" of {self._total:,}" if self._total is not None else "")

    def expect(self, total: int | None) -> None:
        """There are so many steps in all."""
        if total == self._total:
            return
        self._total = total
        if self._task is not None:
            self._progress.update(self._task, total=total)

    def reach(self, done: int, note: str = "") -> None:
        """So many steps are done; `note` stands at the end of the bar."""
        self._done = done
        if self._task is not None:
            self._progress.update(self._task, completed=done, note=note)

    def step(self, note: str = "") -> None:
        """One step more; `note` stands at the end of the bar."""
        self._done += 1
        if self._task is not None:
            rate = f"{self.per_second:,.0f} {self._unit}/s"
            self._progress.update(self._task, advance=1, rate=rate, note=note)
        elif self._done > 1 and time.monotonic() - self._said_s >= _PLAIN_EVERY_S:
            self._said_s = time.monotonic()
            line = f"{self._label}: {self._so_far}, {self.per_second:,.0f} {self._unit}/s"
            if self._total is not None:
                left_s = (self._total - self._done) / max(self.per_second, 1e-9)
                line += f", {left_s:,.0f} s left"
            say(line + (f", {note}" if note else ""))
