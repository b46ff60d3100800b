"""`glimpse generations`, `switch` and `prune`: what a collection is made of, and which serves."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Annotated

import typer

from glimpse.cli import addresses
from glimpse.cli.console import print_json, print_table, say
from glimpse.cli.index_progress import state
from glimpse.cli.manage import NameArgument, YesOption, collection_as_json, make_sure
from glimpse.cli.search import JsonOption
from glimpse.results import Generation


def serving_in(found: Sequence[Generation]) -> Generation | None:
    """The generation that serves, of those of a collection."""
    return next((each for each in found if each.serving), None)


def generations(
    name: NameArgument,
    as_json: JsonOption = False,
    timeout: addresses.TimeoutOption = 30.0,
    indexer: addresses.IndexerOption = None,
    data: addresses.DataOption = None,
) -> None:
    """List the generations of a collection.

    \b
    Example:
        glimpse generations images
    """
    with addresses.connect("", indexer, data, timeout) as client:
        found = client.list_generations(name)
    if as_json:
        print_json({"generations": [_as_json(each) for each in found]})
    else:
        _show(found)


def switch(
    name: NameArgument,
    generation: Annotated[int, typer.Argument(min=0, help="Number of the one that is to serve.")],
    expected: Annotated[
        int | None,
        typer.Option(min=0, help="Only if this one serves until now."),
    ] = None,
    timeout: addresses.TimeoutOption = 60.0,
    indexer: addresses.IndexerOption = None,
    data: addresses.DataOption = None,
) -> None:
    """Have another generation of a collection serve.

    Searches are answered by it within seconds. What was indexed into the one before and is not in
    this one is not found then.

    \b
    Example:
        glimpse switch images 1
    """
    with addresses.connect("", indexer, data, timeout) as client:
        serving = client.switch_generation(name, generation, expected=expected)
    say(f"{name!r} is served by generation {serving.number}, {serving.collection.model.name}.")


def prune(
    name: NameArgument,
    yes: YesOption = False,
    timeout: addresses.TimeoutOption = 60.0,
    indexer: addresses.IndexerOption = None,
    data: addresses.DataOption = None,
) -> None:
    """Permanently remove the generations that do not serve. Picture files are not touched.

    \b
    Example:
        glimpse prune images
    """
    with addresses.connect("", indexer, data, timeout) as client:
        others = [each for each in client.list_generations(name) if not each.serving]
        if not others:
            say(f"{name!r} has no other generation than the one that serves.")
            return
        numbers = ", ".join(str(each.number) for each in others)
        rows = sum(each.collection.rows for each in others)
        make_sure(f"Remove of {name!r} generation {numbers} with {rows:,} images?", yes)
        for each in others:
            client.drop_generation(name, each.number)
    say(f"Of {name!r}, generation {numbers} is removed.")


def _show(found: list[Generation]) -> None:
    rows = [
        (
            each.number,
            "serves" if each.serving else "",
            each.collection.model.name,
            f"{each.collection.rows:,}",
            each.collection.index_kind,
            state(each.collection),
            _age(each.collection.created_at_ms),
        )
        for each in found
    ]
    heads = ("generation", "", "model", "images", "index", "state", "age")
    print_table(heads, [tuple(map(str, row)) for row in rows])


def _age(created_at_ms: int) -> str:
    """How old something is, in the largest unit of which it is at least two."""
    seconds = max(0, int(time.time() - created_at_ms / 1000))
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} seconds"


def _as_json(generation: Generation) -> dict[str, object]:
    collection = collection_as_json(generation.collection)
    return {**dataclasses.asdict(generation), "collection": collection}
