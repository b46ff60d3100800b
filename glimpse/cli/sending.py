"""Sends a command's pictures to the indexer, wherever that is by then; what became of them is told,
however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import typer

from glimpse.cli import addresses
from glimpse.cli.console import CommandError
from glimpse.cli.passed_over import PassedOver
from glimpse.cli.pending import Pending
from glimpse.cli.ports import DEFAULT_INDEXER
from glimpse.cli.progress import Counter
from glimpse.errors import GlimpseError, Unavailable

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


@contextmanager
def counted(
    label: str, to: Destination, passed_over: PassedOver, failures: Path | None, as_json: bool
) -> Iterator[Tally]:
    """The tally of what is sent within. Where that ends early, it is told, and how to go on.

    `failures` is the file that failures are to be written to, if any: what it has of an earlier run
    stays until the tally begins, so that a service that cannot be reached takes nothing away.
    Raises CommandError where it cannot be written, and what ends the block; Ctrl-C as Exit.
    """
    from glimpse.cli.tally import Tally  # gRPC is loaded when a call is made, not for a help text

    with open_failures(failures) as file:
        tally = Tally(to.collection, Counter(label, None, "images"), file, passed_over)
        try:
            yield tally
        except KeyboardInterrupt:
            tally.tell_stopped(as_json, to.force)
            raise typer.Exit(130) from None
        except (GlimpseError, CommandError):
            if tally.has_begun:
                tally.tell_stopped(as_json, to.force)
            raise


def open_failures(path: Path | None) -> AbstractContextManager[IO[str] | None]:
    """The file that failures are to be written to, as it is, where one is asked for.

    Raises CommandError where it cannot be written.
    """
    if path is None:
        return nullcontext()
    try:
        return path.open("a")
    except OSError as error:
        why = (error.strerror or "unknown reason").lower()
        raise CommandError(f"{path}: failures cannot be written there: {why}") from error


def send(pending: Pending, tally: Tally, to: Destination) -> None:
    """Sends the pictures; where the stack is elsewhere when that fails, what is left goes there."""
    with tally.counter:
        _send(pending, tally, to)


def _send(pending: Pending, tally: Tally, to: Destination) -> None:
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
