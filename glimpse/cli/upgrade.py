"""`glimpse upgrade` and `rollback`: another generation takes over, in step with the one before."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glimpse.cli import addresses, protection
from glimpse.cli.comparison import make_folder, texts_in
from glimpse.cli.console import CommandError, say
from glimpse.cli.generations import serving_in
from glimpse.cli.manage import NameArgument
from glimpse.cli.sending_options import PatienceOption, ReadsOption
from glimpse.cli.takeover import Change
from glimpse.errors import GlimpseError
from glimpse.results import Generation

if TYPE_CHECKING:
    from glimpse.client import Client

ReportOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write what was done there, as JSON, however it ends; a run that was killed is gone "
        "on with from there.",
    ),
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
    until both are in step, compares the two, and has the new one serve; for a moment before that,
    whoever writes waits for acknowledgements. May be stopped at any time; the same command goes on.

    \b
    Example:
        glimpse upgrade images --encoder 10.0.0.7:50051
    """
    # What a mistake is in comes first: copying takes hours.
    given_texts = texts_in(texts)
    make_folder(sheets)
    wanted = _fingerprint_at(encoder)
    with addresses.connect(query, indexer, data, timeout, patience) as client:
        found = client.list_generations(name, exact=False)
        serving = serving_in(found)
        if serving is None:
            raise CommandError(f"no generation of {name!r} serves")
        if serving.collection.model.fingerprint == wanted and not again:
            _say_served(client, name, serving, report)
            return
        target = _begun(found, serving, wanted)
        if target is None:
            target = client.create_generation(name, wanted, index_kind=index_kind)
            say(f"Generation {target.number} is made, for {target.collection.model.name}.")
        change = Change(client, name, serving, target, patience, reads)
        with change.reported(report):
            change.run(without_missing, given_texts, sheets, check_only)


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
    with addresses.connect(query, indexer, data, timeout, patience) as client:
        found = client.list_generations(name, exact=False)
        serving = serving_in(found)
        if serving is not None and serving.number == to:
            _say_served(client, name, serving, report)
            return
        others = {each.number: each for each in found if not each.serving}
        if to is None:
            before = [number for number in others if serving and number < serving.number]
            to = before[-1] if before else None
        if serving is None or to not in others:
            raise CommandError(f"{name!r} has no generation to go back to")
        change = Change(client, name, serving, others[to], patience, reads)
        with change.reported(report):
            change.run(without_missing, [], None, False)


def _say_served(client: Client, name: str, serving: Generation, report: Path | None) -> None:
    """Nothing is left to do: what has served before was carried over before the switch."""
    with Change(client, name, serving, serving, patience_s=0, reads=1).reported(report):
        model = serving.collection.model.name
        say(f"{name!r} is served by generation {serving.number} already, which is {model}'s.")


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
    try:
        return model_of(encoder, credentials).fingerprint
    except GlimpseError as error:
        raise CommandError(f"--encoder {encoder}: {error}") from error
