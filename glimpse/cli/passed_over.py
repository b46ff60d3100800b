"""How much a walk has looked at, what it has passed over, by reason, and what it could not read;
finding it is walk's job."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import TypeVar

from glimpse.cli.console import printable, say

Found = TypeVar("Found")

LINKS = "links"
SPECIAL = "pipes, sockets or devices"
_MAX_KINDS = 8
_MAX_COUNTED_KINDS = 1_000
_MAX_TOLD = 20


class PassedOver:
    """Counts, and says at once what cannot be read, or, if it is `verbose`, each of them."""

    def __init__(self, *, verbose: bool = False) -> None:
        self._verbose = verbose
        self.counts: collections.Counter[str] = collections.Counter()
        """By reason: an ending such as ".mov", or a word."""
        self.problems = 0
        """How many folders and names could not be read."""
        self.entries = 0
        """How many entries of folders were looked at."""
        self.pictures = 0
        """How many of them are taken."""

    def first_of(self, pictures: Iterator[Found]) -> Found | None:
        """The first one of a walk, if there is any; until it is found, how far the walk is is
        shown."""
        from glimpse.cli.progress import Counter  # rich is not loaded for a dry run

        with Counter("looking for pictures", None, "pictures", self.progress):
            return next(pictures, None)

    def add(self, path: str, reason: str) -> None:
        """One more that is passed over, for a reason that selection gives."""
        is_known = reason in self.counts or len(self.counts) < _MAX_COUNTED_KINDS
        self.counts[reason if is_known else "others"] += 1
        if self._verbose:
            say(f"passed over: {printable(path)}: {reason}")

    def fail(self, message: str) -> None:
        """What should have been looked at, and could not be."""
        self.problems += 1
        if self._verbose or self.problems <= _MAX_TOLD:
            say(printable(message))
        elif self.problems == _MAX_TOLD + 1:
            say("There is more that cannot be read: --verbose lists all of it.")

    def progress(self) -> str:
        """How far the walk is, such as "12,000 entries looked at, 310 pictures found"; "" where
        there is none, as with files that are named."""
        if not self.entries:
            return ""
        return f"{self.entries:,} entries looked at, {self.pictures:,} pictures found"

    def record(self) -> dict[str, object]:
        """What a program is told of it."""
        return {"passed_over": dict(self.counts), "unreadable": self.problems}

    def summary(self) -> str:
        """One line, such as "12 passed over: 9 .mov, 3 .psd"; "" where nothing was."""
        total = sum(self.counts.values())
        if not total:
            return ""
        kinds = [f"{count:,} {reason}" for reason, count in self.counts.most_common(_MAX_KINDS)]
        rest = total - sum(count for _, count in self.counts.most_common(_MAX_KINDS))
        if rest:
            kinds.append(f"{rest:,} others")
        hint = "; --follow-links takes links" if LINKS in self.counts else ""
        return f"{total:,} passed over: {', '.join(kinds)}{hint}"
