"""`glimpse collections`, `drop`, `delete` and `status`: what is there, and taking it away."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from glimpse.cli import addresses, protection
from glimpse.cli.console import CommandError, print_table, say
from glimpse.cli.ports import DEFAULT_INDEXER, DEFAULT_QUERY
from glimpse.cli.probes import is_serving
from glimpse.errors import GlimpseError
from glimpse.results import Collection
from glimpse.transport.credentials import client_credentials

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def collections(
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
    if not found:
        say("There are no collections yet; glimpse index creates one.")
        return
    _show_collections(found)


def drop(
    name: Annotated[str, typer.Argument(help="The collection's name.")],
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
        rows = client.get_collection(name).rows
        _make_sure(f"Remove the collection {name!r} with {rows:,} images?", yes)
        client.drop_collection(name)
    say(f"{name!r} is removed.")


def delete(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids.")] = None,
    filter: Annotated[
        str | None,
        typer.Option(metavar="EXPRESSION", help="Delete matching images, in place of ids."),
    ] = None,
    collection: addresses.CollectionOption = addresses.DEFAULT_COLLECTION,
    yes: YesOption = False,
    timeout: addresses.TimeoutOption = 30.0,
    indexer: addresses.IndexerOption = None,
    data: addresses.DataOption = None,
) -> None:
    """Delete images from a collection by id or by filter. Picture files are not touched.

    \b
    Examples:
        glimpse delete 5f2c3a0d9b7e4c1122334455667788aa
        glimpse delete --filter 'uri like "/old/photos/%"'
    """
    if bool(ids) == (filter is not None):
        raise typer.BadParameter("give either ids or --filter")
    if filter is not None:
        _make_sure(f"Delete everything in {collection!r} that matches {filter}?", yes)
    with addresses.connect("", indexer, data, timeout) as client:
        deleted = client.delete(collection, ids=ids or None, filter=filter)
    say(f"{deleted:,} deleted.")


def status(
    timeout: addresses.TimeoutOption = 5.0,
    query: addresses.QueryOption = None,
    indexer: addresses.IndexerOption = None,
    data: addresses.DataOption = None,
) -> None:
    """Show the services' health and the collections.

    The exit code is 1 when one of them is not. An encoder is looked at only where `glimpse up`
    wrote its address down.

    \b
    Example:
        glimpse status
    """
    known = addresses.find(data)
    targets = {
        "encoder": known.get("encoder", ""),
        "indexer": indexer or known.get("indexer", DEFAULT_INDEXER),
        "query": query or known.get("query", DEFAULT_QUERY),
    }
    told = protection.chosen()
    credentials = client_credentials(told.tls_ca, told.tls_cert, told.tls_key, told.token)
    health = {name: is_serving(target, credentials) for name, target in targets.items() if target}
    rows = [(n, targets[n], "healthy" if ok else "not healthy") for n, ok in health.items()]
    print_table(("service", "address", "health"), rows)
    if health["indexer"]:
        _try_collections(targets["query"], targets["indexer"], timeout)
    if not all(health.values()):
        bad = ", ".join(name for name, ok in health.items() if not ok)
        raise CommandError(f'not healthy: {bad}; "glimpse up" starts everything on this machine')


def _try_collections(query: str, indexer: str, timeout_s: float) -> None:
    with addresses.connect(query, indexer, None, timeout_s) as client:
        try:
            found = client.collections()
        except GlimpseError as error:
            raise CommandError(f"the collections cannot be listed: {error}") from error
    if found:
        print()
        _show_collections(found)


def _show_collections(found: list[Collection]) -> None:
    rows = [
        (c.name, c.model.name, f"{c.rows:,}", c.index_kind, c.index_state, f"{c.bytes / 1e6:,.1f}")
        if c.error is None
        else (c.name, "", "", "", f"error: {c.error}", "")
        for c in found
    ]
    print_table(("collection", "model", "images", "index", "state", "MB"), rows)


def _make_sure(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError("cannot ask for confirmation here; use --yes to skip it")
    typer.confirm(question, abort=True, err=True)
