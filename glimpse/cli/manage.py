"""`glimpse collections`, `drop`, `delete` and `status`: what is there, and taking it away."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glimpse.cli import addresses, protection
from glimpse.cli.console import CommandError, print_json, print_table, say
from glimpse.cli.index_progress import state
from glimpse.cli.ports import DEFAULT_INDEXER, DEFAULT_QUERY
from glimpse.cli.search import JsonOption
from glimpse.errors import GlimpseError
from glimpse.results import Collection

if TYPE_CHECKING:
    from glimpse.cli.probes import Condition

_PEERS = {"encoder": "the encoder", "indexer": "the indexer", "query": "the query service"}

NameArgument = Annotated[str, typer.Argument(help="The collection's name.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def collections(
    as_json: JsonOption = False,
    timeout: addresses.TimeoutOption = 10.0,
    indexer: addresses.IndexerOption = None,
    data: addresses.DataOption = None,
) -> None:
    """List the collections: model, rows, index, size.

    \b
    Example:
        glimpse collections
    """
    with addresses.connect("", indexer, data, timeout) as client:
        found = client.collections()
    if as_json:
        print_json({"collections": [collection_as_json(each) for each in found]})
    elif found:
        _show_collections(found)
    else:
        say("There are no collections yet; glimpse index creates one.")


def drop(
    name: NameArgument,
    yes: YesOption = False,
    timeout: addresses.TimeoutOption = 30.0,
    indexer: addresses.IndexerOption = None,
    data: addresses.DataOption = None,
) -> None:
    """Permanently remove a collection and all its images. Picture files are not touched.

    \b
    Example:
        glimpse drop images
    """
    with addresses.connect("", indexer, data, timeout) as client:
        rows = client.get_collection(name, exact=True).rows
        make_sure(f"Remove the collection {name!r} with {rows:,} images?", yes)
        client.drop_collection(name)
    say(f"{name!r} is removed.")


def delete(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids.")] = None,
    filter: Annotated[
        str | None,
        typer.Option(metavar="EXPRESSION", help="Delete matching images, in place of ids."),
    ] = None,
    collection: addresses.CollectionOption = addresses.DEFAULT_COLLECTION,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask before deleting what --filter matches.")
    ] = False,
    timeout: addresses.TimeoutOption = 30.0,
    indexer: addresses.IndexerOption = None,
    data: addresses.DataOption = None,
) -> None:
    """Delete images from a collection by id or by filter. Picture files are not touched.

    Ids are deleted at once. Of a filter, how many images match is said first, and asked about.

    \b
    Examples:
        glimpse delete 5f2c3a0d9b7e4c1122334455667788aa
        glimpse delete --filter 'uri like "/old/photos/%"'
    """
    if bool(ids) == (filter is not None):
        raise typer.BadParameter("give either ids or --filter")
    with addresses.connect("", indexer, data, timeout) as client:
        if filter is not None and not yes:
            _check_terminal()
            count = client.count_images(collection, filter)
            make_sure(f"Delete {count:,} images of {collection!r}, which match {filter}?", yes)
        deleted = client.delete(collection, ids=ids or None, filter=filter)
    say(f"{deleted:,} deleted.")


def status(
    as_json: JsonOption = False,
    timeout: addresses.TimeoutOption = 5.0,
    query: addresses.QueryOption = None,
    indexer: addresses.IndexerOption = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            envvar="GLIMPSE_ENCODER",
            metavar="HOST:PORT",
            help="The encoder; without it, as recorded by `glimpse up`, or not looked at.",
        ),
    ] = None,
    data: addresses.DataOption = None,
) -> None:
    """Show the services' health and the collections.

    The exit code is 1 when one of them is not healthy. Health needs no token; the collections need
    one with the scope index, where the services ask for tokens, and are left out without it.

    \b
    Example:
        glimpse status
    """
    starting = addresses.find_starting(data)
    known = starting or addresses.find(data)
    targets = {
        "encoder": encoder or known.get("encoder", ""),
        "indexer": indexer or known.get("indexer", DEFAULT_INDEXER),
        "query": query or known.get("query", DEFAULT_QUERY),
    }
    targets = {name: target for name, target in targets.items() if target}
    conditions = _conditions(targets)
    problems = {name: condition.problem for name, condition in conditions.items()}
    found, problem = None, problems["indexer"]
    if not problem:
        found, problem = _try_collections(targets["query"], targets["indexer"], timeout)
    if as_json:
        print_json(_status_as_json(targets, problems, found))
    else:
        rows = [(n, t, problems[n] or "healthy") for n, t in targets.items()]
        print_table(("service", "address", "health"), rows)
        if found:
            print()
            _show_collections(found)
    if found is None and not problems["indexer"]:
        say(f"The collections are left out: {problem}")
    bad = [name for name, problem in problems.items() if problem]
    if bad:
        raise CommandError(_what_to_do(bad, conditions, bool(starting), data))


def _what_to_do(
    bad: list[str], conditions: dict[str, Condition], is_starting: bool, data: Path | None
) -> str:
    """What somebody does whose services `bad` are not healthy."""
    names = ", ".join(bad)
    if is_starting:
        folder = data or addresses.default_data()
        return f"glimpse up is just starting on {folder}: it waits for {names}"
    if all(conditions[name].answers for name in bad):
        return f"not healthy: {names}; they run, and will be once they have what they wait for"
    return f'not healthy: {names}; "glimpse up" starts everything on this machine'


def _conditions(targets: dict[str, str]) -> dict[str, Condition]:
    """How each service is."""
    # gRPC is loaded when a call is made, not for a help text.
    from glimpse.cli.probes import condition_of
    from glimpse.transport.credentials import client_credentials
    from glimpse.transport.host_port import check_target

    told = protection.chosen()
    credentials = dataclasses.replace(
        client_credentials(told.tls_ca, told.tls_cert, told.tls_key, told.token),
        names=protection.NAMES,
    )
    for name, target in targets.items():
        check_target(name, target)
    return {
        name: condition_of(target, credentials, _PEERS[name]) for name, target in targets.items()
    }


def _try_collections(
    query: str, indexer: str, timeout_s: float
) -> tuple[list[Collection] | None, str]:
    """The collections, or None and why there are none to show."""
    with addresses.connect(query, indexer, None, timeout_s) as client:
        try:
            return client.collections(), ""
        except GlimpseError as error:
            return None, str(error)


def _status_as_json(
    targets: dict[str, str], problems: dict[str, str], found: list[Collection] | None
) -> dict[str, object]:
    services = {
        name: {"address": target, "healthy": not problems[name], "problem": problems[name] or None}
        for name, target in targets.items()
    }
    listed = None if found is None else [collection_as_json(each) for each in found]
    return {"services": services, "collections": listed}


def collection_as_json(collection: Collection) -> dict[str, object]:
    error = collection.error
    return {**dataclasses.asdict(collection), "error": None if error is None else str(error)}


def _show_collections(found: list[Collection]) -> None:
    rows = [
        (c.name, c.model.name, f"{c.rows:,}", c.index_kind, state(c), f"{c.bytes / 1e6:,.1f}")
        if c.error is None
        else (c.name, "", "", "", f"error: {c.error}", "")
        for c in found
    ]
    print_table(("collection", "model", "images", "index", "state", "MB"), rows)


def make_sure(question: str, yes: bool) -> None:
    if not yes:
        _check_terminal()
        typer.confirm(question, abort=True, err=True)


def _check_terminal() -> None:
    """Raises CommandError where nobody can be asked."""
    if not sys.stdin.isatty():
        raise CommandError("cannot ask for confirmation here; use --yes to skip it")
