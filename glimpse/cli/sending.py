"""Sends a command's pictures to the indexer, wherever that is by then."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from glimpse.cli import addresses
from glimpse.cli.console import CommandError
from glimpse.cli.pending import Pending
from glimpse.cli.ports import DEFAULT_INDEXER
from glimpse.errors import Unavailable

if TYPE_CHECKING:
    from glimpse.cli.tally import Tally


@dataclass(frozen=True)
class Destination:
    """Where pictures go, and how."""

    collection: str
    indexer: str | None
    data: Path | None
    patience_s: float
    max_reads: int
    force: bool = False


def send(pending: Pending, tally: Tally, to: Destination) -> None:
    """Sends the pictures; where the stack is elsewhere when that fails, what is left goes there."""
    where = _indexer_at(to)
    while True:
        with addresses.connect("", where, None) as client:
            ingest = client.index(
                to.collection,
                pending.attempt(),
                force=to.force,
                keep_copies=True,
                patience_s=to.patience_s,
                max_reads=to.max_reads,
            )
            with ingest:
                try:
                    tally.follow(ingest, pending)
                    return
                except Unavailable:
                    before, where = where, _indexer_now(where, to)
                    if where == before:
                        raise
        tally.moved(where)


def _indexer_at(to: Destination) -> str:
    return to.indexer or addresses.find(to.data).get("indexer", DEFAULT_INDEXER)


def _indexer_now(before: str, to: Destination) -> str:
    try:
        return _indexer_at(to)
    except CommandError:  # no stack runs on that folder any more
        return before


def open_failures(path: Path | None, stack: ExitStack) -> IO[str] | None:
    """The file that failures are to be written to, if any. Raises CommandError.

    What it has of an earlier run stays until the tally begins: a service that cannot be reached
    takes nothing away.
    """
    if path is None:
        return None
    try:
        return stack.enter_context(path.open("a"))
    except OSError as error:
        why = (error.strerror or "unknown reason").lower()
        raise CommandError(f"{path}: failures cannot be written there: {why}") from error
