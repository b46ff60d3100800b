"""`glimpse index`: sends pictures to the indexer and tells what became of them."""

from __future__ import annotations

import enum
import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from glimpse.cli import addresses, bundled_model, index_progress
from glimpse.cli.console import CommandError, print_json, printable, say
from glimpse.cli.metadata import MetadataEntries
from glimpse.cli.passed_over import PassedOver
from glimpse.cli.pending import Pending
from glimpse.cli.search import JsonOption
from glimpse.cli.selection import Selection
from glimpse.cli.sending import Destination, counted, send
from glimpse.cli.sending_options import (
    ExcludeOption,
    FailuresOption,
    FollowLinksOption,
    IncludeOption,
    MetadataOption,
    PatienceOption,
    ReadsOption,
    VerboseOption,
)
from glimpse.cli.walk import find_pictures, image_file
from glimpse.errors import GlimpseError
from glimpse.results import ImageFile


class IdFrom(str, enum.Enum):
    """What a picture's id is made of."""

    CONTENT = "content"
    PATH = "path"


def index(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH", help="Folders, files, patterns, URLs or @LIST.")
    ],
    collection: addresses.CollectionOption = addresses.DEFAULT_COLLECTION,
    metadata: MetadataOption = None,
    id_from: Annotated[
        IdFrom,
        typer.Option(
            help="content: the same file again is the same image; each copy has a row, and all are "
            "encoded once; path: a changed file replaces its former self."
        ),
    ] = IdFrom.CONTENT,
    force: Annotated[
        bool, typer.Option("--force", help="Also encode and write unchanged images.")
    ] = False,
    failures: FailuresOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the pictures that would be sent.")
    ] = False,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    follow_links: FollowLinksOption = False,
    verbose: VerboseOption = False,
    reads: ReadsOption = 32,
    patience: PatienceOption = 120.0,
    as_json: JsonOption = False,
    indexer: addresses.IndexerOption = None,
    data: addresses.DataOption = None,
) -> None:
    """Index pictures, so that they can be searched.

    Folders and patterns stand for the files below them whose names end like a picture's (.jpg,
    .png, .webp, .gif, .bmp, .tif, .avif, .heic ...). Hidden files and folders, what storage devices
    and systems put beside people's files (@eaDir, #recycle, lost+found ...) and links are passed
    over, and counted. Files that are named, on the command line or in a list, are always sent: what
    is in them decides, not their name. What is indexed already and has not changed is skipped. A
    cut connection is resumed.

    URLs of object stores, s3://BUCKET/FOLDER and whatever fsspec knows, are taken in the same way;
    they need: pip install fsspec s3fs.

    The exit code is 1 when any picture failed, or anything that was named could not be read.

    \b
    Examples:
        glimpse index ~/Pictures
        glimpse index 'photos/**/*.jpg' --metadata photos.csv --failures failed.jsonl
        glimpse index @failed.jsonl
        find . -newer last -print0 | glimpse index @-
        glimpse index s3://bucket/photos 's3://bucket/more/**/*.png'
    """
    entries = MetadataEntries(metadata)
    passed_over = PassedOver(verbose=verbose)
    selection = Selection(tuple(include or ()), tuple(exclude or ()), follow_links)
    pictures = _image_files(find_pictures(paths, selection, passed_over), entries, id_from)
    if dry_run:
        _list(pictures, collection, passed_over, as_json)
        entries.tell_unused()
        if passed_over.problems:
            raise typer.Exit(1)
        return
    first = passed_over.first_of(pictures)
    if first is None:
        if passed_over.counts:
            say(f"{passed_over.summary()}.")
        raise CommandError("the arguments name no picture; see: glimpse index --help")
    to = Destination(collection, indexer, data, patience, reads, force)
    with counted("indexing", to, passed_over, failures, as_json) as tally:
        send(Pending(itertools.chain([first], pictures)), tally, to)
    tally.tell(as_json)
    entries.tell_unused()
    with suppress(GlimpseError, KeyboardInterrupt):
        _look_at(collection, indexer, data)
    if tally.has_failures:
        raise typer.Exit(1)


def _image_files(
    pictures: Iterable[Path | str], entries: MetadataEntries, id_from: IdFrom
) -> Iterator[ImageFile]:
    for picture in pictures:
        image = image_file(picture)
        identity = ""
        if id_from is IdFrom.PATH:
            identity = hashlib.sha256(os.fsencode(image.address)).hexdigest()[:32]
        yield replace(image, id=identity, metadata=entries.of(image.address))


def _list(
    pictures: Iterable[ImageFile], collection: str, passed_over: PassedOver, as_json: bool
) -> None:
    names = _names(pictures, passed_over)
    if as_json:
        listed = {"collection": collection, "pictures": list(names)}
        print_json({**listed, **passed_over.record()})
        return
    count = 0
    for name in names:
        count += 1
        print(printable(name))
    if passed_over.counts:
        say(f"{passed_over.summary()}.")
    say(f"{count:,} pictures would be sent to {collection!r}.")


def _names(pictures: Iterable[ImageFile], passed_over: PassedOver) -> Iterator[str]:
    """Of those that are there; of URLs, that shows when they are read."""
    for picture in pictures:
        if picture.path is not None and not os.path.exists(picture.path):
            passed_over.fail(f"{picture.path}: no such file")
        else:
            yield str(picture.path or picture.url)


def _look_at(collection: str, indexer: str | None, data: Path | None) -> None:
    """Tells which model fills it, and shows how far its index is."""
    with addresses.connect("", indexer, data) as client:
        found = client.get_collection(collection)
        bundled_model.tell_of_collection(collection, found.model.name)
        index_progress.follow(client, found)
