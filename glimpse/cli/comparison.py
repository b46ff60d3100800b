"""How alike two generations of a collection answer: what of the first ten hits both have."""

from __future__ import annotations

import contextlib
import random
import statistics
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glimpse.cli.console import CommandError, print_table, say
from glimpse.cli.search import write_sheet
from glimpse.errors import FailedPrecondition, NotFound, Unavailable
from glimpse.results import Hit

if TYPE_CHECKING:
    from glimpse.client import Client

_HITS = 10
_SAMPLE = 50
_SAMPLED_FROM = 10_000
_SHOWN = 10


@dataclass(frozen=True)
class BothAnswers:
    """The hits of both for one question."""

    question: str
    before: list[Hit]
    after: list[Hit]

    @property
    def overlap(self) -> float:
        """Which share of the first hits both have; 1 where neither has any."""
        ids = [{hit.id for hit in hits} for hits in (self.before, self.after)]
        return len(ids[0] & ids[1]) / max(1, *map(len, ids)) if any(ids) else 1.0


def texts_in(path: Path | None) -> list[str]:
    """The lines of a file. Raises CommandError."""
    if path is None:
        return []
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path}: cannot be read: {error}") from error
    return [line.strip() for line in lines if line.strip()]


def make_folder(sheets: Path | None) -> None:
    """The folder for sheets, where one is named. Raises CommandError."""
    if sheets is None:
        return
    try:
        sheets.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"{sheets}: no folder for sheets: {error.strerror}") from error


def compare(
    client: Client, before: str, after: str, texts: list[str], sheets: Path | None
) -> dict[str, Any]:
    """Asks both; shows the questions whose answers differ most, and returns the figures."""
    counts = client.count_images(before), client.count_images(after)
    # Of those that differ as much, the operator's own questions come first.
    found = [*_by_texts(client, before, after, texts), *_by_images(client, before, after)]
    worst = sorted(found, key=lambda each: each.overlap)[:_SHOWN]
    say(f"{before}: {counts[0]:,} images; {after}: {counts[1]:,}.")
    if found:
        mean = statistics.fmean(each.overlap for each in found)
        say(f"Of the first {_HITS} hits, both have {mean:.0%}; least of:")
        rows = [(each.question, f"{each.overlap:.0%}", *_best(each)) for each in worst]
        print_table(("question", "overlap", before, after), rows)
        _write_sheets(sheets, worst, before, after)
    return {
        "images": counts,
        "questions": len(found),
        "overlap": statistics.fmean(each.overlap for each in found) if found else None,
        "least": [{"question": each.question, "overlap": each.overlap} for each in worst],
    }


def _by_images(client: Client, before: str, after: str) -> list[BothAnswers]:
    first = [image.id for image in islice(client.list_images(after), _SAMPLED_FROM)]
    ids = random.Random(len(first)).sample(first, min(_SAMPLE, len(first)))  # noqa: S311
    found = []
    for identity in ids:
        with contextlib.suppress(NotFound):  # it was deleted meanwhile, or has come just now
            found.append(
                BothAnswers(
                    f"like {identity}",
                    client.search(before, image_id=identity, limit=_HITS).hits,
                    client.search(after, image_id=identity, limit=_HITS).hits,
                )
            )
    return found


def _by_texts(client: Client, before: str, after: str, texts: list[str]) -> list[BothAnswers]:
    """Texts need an encoder of either model; without one of before, there is nothing to compare."""
    try:
        return [
            BothAnswers(
                text,
                client.search(before, text, limit=_HITS).hits,
                client.search(after, text, limit=_HITS).hits,
            )
            for text in texts
        ]
    except (Unavailable, FailedPrecondition) as error:
        say(f"Texts are not compared: {error}")
        return []


def _best(both: BothAnswers) -> tuple[str, str]:
    before, after = (hits[0].id if hits else "" for hits in (both.before, both.after))
    return before, after


def _write_sheets(folder: Path | None, worst: list[BothAnswers], before: str, after: str) -> None:
    if folder is None:
        return
    for number, each in enumerate(worst, start=1):
        for address, hits in ((before, each.before), (after, each.after)):
            title = f"{address}: {each.question}"
            write_sheet(folder / f"{number:02}-{address}.png", title, hits)
    say(f"Sheets: {folder}")
