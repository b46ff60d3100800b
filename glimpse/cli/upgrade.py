"""`glimpse upgrade` and `rollback`: another generation takes over, in step with the one before."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glimpse.cli import addresses, protection
from glimpse.cli.carrying import Carrier, Pass
from glimpse.cli.comparison import compare, texts_in
from glimpse.cli.console import CommandError, say
from glimpse.cli.generations import NameArgument
from glimpse.cli.sending_options import PatienceOption, ReadsOption
from glimpse.results import Generation

if TYPE_CHECKING:
    from glimpse.client import Client

_FEW = 20
_FEW_SHARE = 0.001
_MAX_PASSES = 50
_LOOK_S = 1.0
_UNREADABLE_SHOWN = 20

ReportOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write what was done there, as JSON, however it ends."),
]
WithoutMissingOption = Annotated[
    bool,
    typer.Option("--without-missing", help="Go on without images whose files cannot be read."),
]


def upgrade(
    name: NameArgument,
    encoder: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            help="An encoder that runs the new model; indexer and query have it as well.",
        ),
    ],
    index_kind: Annotated[
        str, typer.Option(metavar="KIND", help="Kind of vector index, by Milvus' name.")
    ] = "AUTO",
    again: Annotated[
        bool, typer.Option("--again", help="Also where that model serves already.")
    ] = False,
    without_missing: WithoutMissingOption = False,
    texts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Texts to compare both by, one a line.")
    ] = None,
    sheets: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for contact sheets of what differs most."),
    ] = None,
    check_only: Annotated[
        bool, typer.Option("--check-only", help="Stop before the switch.")
    ] = False,
    report: ReportOption = None,
    patience: PatienceOption = 120.0,
    reads: ReadsOption = 32,
    timeout: addresses.TimeoutOption = 60.0,
    query: addresses.QueryOption = None,
    indexer: addresses.IndexerOption = None,
    data: addresses.DataOption = None,
) -> None:
    """Have a collection served by another model, and no search fail.

    Makes a new generation, fills it with the collection's images, read again from their addresses,
    until both are in step, compares the two, has the new one serve, and carries over what was
    written meanwhile. May be stopped at any time; the same command goes on.

    \b
    Example:
        glimpse upgrade images --encoder 10.0.0.7:50051
    """
    wanted = _fingerprint_at(encoder)
    with addresses.connect(query, indexer, data, timeout) as client:
        found = client.list_generations(name, exact=False)
        serving = next((each for each in found if each.serving), None)
        if serving is None:
            raise CommandError(f"no generation of {name!r} serves")
        if serving.collection.model.fingerprint == wanted and not again:
            _finish(client, name, serving, found, patience, reads, report)
            return
        target = _begun(found, serving, wanted)
        if target is None:
            target = client.create_generation(name, wanted, index_kind=index_kind)
            say(f"Generation {target.number} is made, for {target.collection.model.name}.")
        change = Change(client, name, serving.number, target.number, patience, reads)
        with change.reported(report):
            change.run(without_missing, texts_in(texts), sheets, check_only)


def rollback(
    name: NameArgument,
    to: Annotated[
        int | None,
        typer.Option(min=0, help="Number of the generation; without it, the newest before."),
    ] = None,
    without_missing: WithoutMissingOption = False,
    report: ReportOption = None,
    patience: PatienceOption = 120.0,
    reads: ReadsOption = 32,
    timeout: addresses.TimeoutOption = 60.0,
    query: addresses.QueryOption = None,
    indexer: addresses.IndexerOption = None,
    data: addresses.DataOption = None,
) -> None:
    """Have a collection served by its generation of before again.

    What was written, replaced or deleted since then is carried back first. For as long as that
    generation is kept: glimpse prune removes it.

    \b
    Example:
        glimpse rollback images
    """
    with addresses.connect(query, indexer, data, timeout) as client:
        found = client.list_generations(name, exact=False)
        serving = next((each for each in found if each.serving), None)
        if serving is not None and serving.number == to:
            _finish(client, name, serving, found, patience, reads, report)
            return
        others = [each.number for each in found if not each.serving]
        if to is None:
            before = [number for number in others if serving and number < serving.number]
            to = before[-1] if before else None
        if serving is None or to not in others:
            raise CommandError(f"{name!r} has no generation to go back to")
        change = Change(client, name, serving.number, to, patience, reads)
        with change.reported(report):
            change.run(without_missing, [], None, False)


class Change:
    """One generation takes over from another."""

    def __init__(
        self, client: Client, name: str, before: int, after: int, patience_s: float, reads: int
    ) -> None:
        self._client = client
        self._name, self._before, self._after = name, before, after
        self._source, self._target = f"{name}@{before}", f"{name}@{after}"
        self._carrier = Carrier(client, self._source, self._target, patience_s, reads)
        self._report: dict[str, Any] = {
            "collection": name,
            "from": before,
            "to": after,
            "passes": [],
            "unreadable": {},
            "comparison": None,
            "switched": False,  # by this run
        }

    @contextlib.contextmanager
    def reported(self, path: Path | None) -> Iterator[None]:
        """Writes what was done by the end of the block, for programs. Raises CommandError."""
        try:
            yield
        finally:
            if path is not None:
                try:
                    path.write_text(json.dumps(self._report, indent=2) + "\n")
                except OSError as error:
                    raise CommandError(f"{path}: no report: {error.strerror}") from error

    def run(
        self, without_missing: bool, texts: list[str], sheets: Path | None, check_only: bool
    ) -> None:
        """Raises CommandError where an operator must decide."""
        self.catch_up()
        self._decide(without_missing)
        self._wait_for_index()
        self._report["comparison"] = compare(
            self._client, self._source, self._target, texts, sheets
        )
        if check_only:
            say(f"{self._target} is in step with {self._source}, which serves.")
            return
        self._client.switch_generation(self._name, self._after, expected=self._before)
        self._report["switched"] = True
        say(f"{self._name!r} is served by generation {self._after}.")
        self.finish()

    def catch_up(self) -> None:
        """Passes until so little is new that what comes until the switch is next to nothing."""
        known: set[str] = set()
        for number in range(_MAX_PASSES):
            label = "carrying images over" if number == 0 else "catching up"
            total = self._client.get_collection(self._source, exact=False).rows if not number else 0
            done = self._carrier.run(label, total or None, serves=False)
            self._note(done)
            # A file may be newer than its row for a moment: what cannot be read is looked at twice.
            is_clear, known = known.issuperset(done.unreadable), set(done.unreadable)
            if is_clear and done.changes <= max(_FEW, _FEW_SHARE * done.compared):
                return
        raise CommandError("images are written faster than they can be carried over")

    def finish(self) -> None:
        """What was acknowledged before the switch and not carried over yet."""
        for _ in range(_MAX_PASSES):
            done = self._carrier.run("what came last", None, serves=True)
            self._note(done)
            if not done.changes:
                return

    def _note(self, done: Pass) -> None:
        self._report["passes"].append(
            {"carried": done.carried, "deleted": done.deleted, "seconds": round(done.seconds, 3)}
        )
        self._report["unreadable"] = done.unreadable
        say(f"{done.carried:,} carried over, {done.deleted:,} deleted.")

    def _decide(self, without_missing: bool) -> None:
        unreadable = self._report["unreadable"]
        if not unreadable:
            return
        for identity, why in list(unreadable.items())[:_UNREADABLE_SHOWN]:
            say(f"  {identity}: {why}")
        say(f"{len(unreadable):,} images cannot be read.")
        if not without_missing:
            raise CommandError(
                "these images would be missing: bring their files back and run it again, or go on "
                "with --without-missing"
            )

    def _wait_for_index(self) -> None:
        """Searches of the new generation are fast from the first one on."""
        while True:
            found = self._client.get_collection(self._target, exact=False)
            if found.indexed_rows >= found.rows or not found.pending_rows:
                return
            time.sleep(_LOOK_S)


def _finish(
    client: Client,
    name: str,
    serving: Generation,
    found: list[Generation],
    patience_s: float,
    reads: int,
    report: Path | None,
) -> None:
    """The end of a change that was stopped behind its switch: what came last is carried over from
    the newest of the others, which may be nothing."""
    say(f"{name!r} is served by generation {serving.number} already.")
    others = [each.number for each in found if not each.serving]
    if others:
        change = Change(client, name, others[-1], serving.number, patience_s, reads)
        with change.reported(report):
            change.finish()


def _begun(found: list[Generation], serving: Generation, fingerprint: str) -> Generation | None:
    """The generation that an earlier run has made."""
    for each in reversed(found):
        is_newer = each.number > serving.number
        if is_newer and each.collection.model.fingerprint == fingerprint:
            say(f"Generation {each.number} is there, and is filled further.")
            return each
    return None


def _fingerprint_at(encoder: str) -> str:
    # gRPC is loaded when a call is made, not for a help text.
    from glimpse.cli.probes import model_of
    from glimpse.transport.credentials import client_credentials

    told = protection.chosen()
    credentials = dataclasses.replace(
        client_credentials(told.tls_ca, told.tls_cert, told.tls_key, told.token),
        names=protection.NAMES,
    )
    return model_of(encoder, credentials).fingerprint
