"""Progress of steps: a bar on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from glimpse.cli.console import say

_PLAIN_EVERY_S = 5.0
_PLAIN_FIRST_S = 1.0  # where something is looked for before the first step


class Counter:
    """Progress of `total` steps, which may become known on the way: None until then.

    `looking` says, at any time, how far the search for what is to be done is; "": not at all. On a
    terminal it is shown beside the bar; elsewhere a thread says, from the first second on, how far
    all of it is, also while there is no step.
    """

    def __init__(
        self,
        label: str,
        total: int | None,
        unit: str,
        looking: Callable[[], str] | None = None,
    ) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._looking = looking
        self._note = ""
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            _Looking(self._look),
            console=self._console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._done = 0
        self._started_s = time.monotonic()
        self._ended = threading.Event()

    def __enter__(self) -> Counter:
        self._started_s = time.monotonic()
        if self._console.is_terminal:
            self._task = self._progress.add_task(self._label, total=self._total, rate="", note="")
            self._progress.start()
        else:
            threading.Thread(target=self._say_lines, name="glimpse-progress", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
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

    def show(self, looking: Callable[[], str]) -> None:
        """As `looking` of the constructor; before it begins."""
        self._looking = looking

    def _look(self) -> str:
        return self._looking() if self._looking is not None else ""

    def expect(self, total: int | None) -> None:
        """There are so many steps in all."""
        if total == self._total:
            return
        self._total = total
        if self._task is not None:
            self._progress.update(self._task, total=total)

    def reach(self, done: int, note: str = "") -> None:
        """So many steps are done; `note` stands at the end of the bar."""
        self._done, self._note = done, note
        if self._task is not None:
            self._progress.update(self._task, completed=done, note=note)

    def step(self, note: str = "", steps: int = 1) -> None:
        """One step more, or several; `note` stands at the end of the bar."""
        self._done, self._note = self._done + steps, note
        if self._task is not None:
            rate = f"{self.per_second:,.0f} {self._unit}/s"
            self._progress.update(self._task, advance=steps, rate=rate, note=note)

    def _say_lines(self) -> None:
        """On a thread of its own, until the end."""
        pause_s = _PLAIN_EVERY_S if self._looking is None else _PLAIN_FIRST_S
        while not self._ended.wait(pause_s):
            say(self._line())
            pause_s = _PLAIN_EVERY_S

    def _line(self) -> str:
        looked, parts = self._look(), []
        if self._done or not looked:
            parts.append(self._so_far)
        if self._done:
            parts.append(f"{self.per_second:,.0f} {self._unit}/s")
            if self._total is not None:
                left_s = (self._total - self._done) / max(self.per_second, 1e-9)
                parts.append(f"{left_s:,.0f} s left")
        return f"{self._label}: " + ", ".join(part for part in (*parts, self._note, looked) if part)


class _Looking(ProgressColumn):
    """Asked anew whenever the bar is drawn."""

    def __init__(self, looking: Callable[[], str]) -> None:
        super().__init__()
        self._looking = looking

    def render(self, task: Task) -> Text:
        return Text(self._looking(), style="dim")
