"""`glimpse index`: sends pictures to the indexer and tells what became of them."""

from __future__ import annotations

import enum
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glimpse.cli import addresses, bundled_model
from glimpse.cli.console import CommandError, printable, say
from glimpse.cli.metadata import read_metadata
from glimpse.cli.ports import DEFAULT_INDEXER
from glimpse.cli.progress import Counter
from glimpse.cli.search import JsonOption
from glimpse.cli.walk import find_pictures, image_file
from glimpse.errors import GlimpseError, Unavailable
from glimpse.results import ImageFile

if TYPE_CHECKING:
    from glimpse.cli.tally import Tally


class IdFrom(str, enum.Enum):
    """What a picture's id is made of."""

    CONTENT = "content"
    PATH = "path"


def index(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH", help="Folders, files, patterns, URLs or @LIST.")
    ],
    collection: addresses.CollectionOption = addresses.DEFAULT_COLLECTION,
    metadata: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='Metadata by "path": a .jsonl file of objects or a .csv file with a header.',
        ),
    ] = None,
    id_from: Annotated[
        IdFrom,
        typer.Option(
            help="content: copies of a picture are one image; path: a changed file replaces its "
            "former self."
        ),
    ] = IdFrom.CONTENT,
    force: Annotated[
        bool, typer.Option("--force", help="Also encode and write unchanged images.")
    ] = False,
    failures: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write failed paths and reasons here, for @FILE later."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the pictures that would be sent.")
    ] = False,
    patience: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="How long to continue without progress."),
    ] = 120.0,
    as_json: JsonOption = False,
    indexer: addresses.IndexerOption = None,
    data: addresses.DataOption = None,
) -> None:
    """Index pictures, so that they can be searched.

    Folders are walked: files in them are taken when their name ends like a picture's (.jpg, .jpeg,
    .png, .webp, .gif, .bmp, .tif, .tiff ...), hidden ones never. Files named one by one, or by a
    pattern, are always sent: what is in them decides, not their name. What is indexed already and
    has not changed is skipped. A cut connection is resumed.

    URLs of object stores, s3://BUCKET/FOLDER and whatever fsspec knows, are taken in the same way;
    they need: pip install fsspec s3fs.

    The exit code is 1 when any picture failed.

    \b
    Examples:
        glimpse index ~/Pictures
        glimpse index 'photos/**/*.jpg' --metadata photos.csv --failures failed.jsonl
        glimpse index @failed.jsonl
        glimpse index s3://bucket/photos 's3://bucket/more/**/*.png'
    """
    entries = read_metadata(metadata) if metadata else {}
    pictures = list(_image_files(find_pictures(paths), entries, id_from))
    _tell_unused(entries, pictures, metadata)
    if dry_run:
        for picture in pictures:
            print(printable(str(picture.path or picture.url)))
        say(f"{len(pictures):,} pictures would be sent to {collection!r}.")
        return
    if not pictures:
        raise CommandError("the arguments name no picture; see: glimpse index --help")
    from glimpse.cli.tally import Tally  # gRPC is loaded when a call is made, not for a help text

    with ExitStack() as stack:
        failure_file = _open_failures(failures, stack)
        counter = Counter("indexing", len(pictures), "images")
        tally = Tally(collection, counter, failure_file)
        try:
            with counter:
                _send(pictures, tally, collection, force, patience, indexer, data)
        except (KeyboardInterrupt, GlimpseError) as end:
            if tally.done or isinstance(end, KeyboardInterrupt):
                tally.tell_stopped(as_json, force)
            if isinstance(end, KeyboardInterrupt):
                raise typer.Exit(130) from None
            raise
    tally.tell(as_json)
    _tell_model(collection, indexer, data)
    if tally.has_failures:
        raise typer.Exit(1)


def _send(
    pictures: list[ImageFile],
    tally: Tally,
    collection: str,
    force: bool,
    patience_s: float,
    indexer: str | None,
    data: Path | None,
) -> None:
    """Sends the pictures; where the stack is elsewhere when that fails, what is left goes there."""
    where = _indexer_at(indexer, data)
    while True:
        left = [picture for picture in pictures if picture.address not in tally.done]
        with addresses.connect("", where, None) as client:
            ingest = client.index(collection, left, force=force, patience_s=patience_s)
            with ingest:
                try:
                    tally.follow(ingest)
                    return
                except Unavailable:
                    before, where = where, _indexer_now(where, indexer, data)
                    if where == before:
                        raise
        tally.moved(where)


def _indexer_at(indexer: str | None, data: Path | None) -> str:
    return indexer or addresses.find(data).get("indexer", DEFAULT_INDEXER)


def _indexer_now(before: str, indexer: str | None, data: Path | None) -> str:
    try:
        return _indexer_at(indexer, data)
    except CommandError:  # no stack runs on that folder any more
        return before


def _image_files(
    pictures: Iterable[Path | str], entries: dict[str, dict[str, Any]], id_from: IdFrom
) -> Iterator[ImageFile]:
    for picture in pictures:
        image = image_file(picture)
        identity = ""
        if id_from is IdFrom.PATH:
            identity = hashlib.sha256(os.fsencode(image.address)).hexdigest()[:32]
        yield replace(image, id=identity, metadata=entries.get(image.address, {}))


def _tell_unused(
    entries: dict[str, dict[str, Any]], pictures: list[ImageFile], source: Path | None
) -> None:
    unused = entries.keys() - {picture.address for picture in pictures}
    if unused:
        say(
            f"{len(unused):,} of {len(entries):,} entries of {source} match none of the pictures, "
            f"such as the one for {printable(min(unused))}"
        )


def _open_failures(path: Path | None, stack: ExitStack) -> Any:
    if path is None:
        return None
    try:
        return stack.enter_context(path.open("w"))
    except OSError as error:
        why = (error.strerror or "unknown reason").lower()
        raise CommandError(f"{path}: failures cannot be written there: {why}") from error


def _tell_model(collection: str, indexer: str | None, data: Path | None) -> None:
    with suppress(GlimpseError), addresses.connect("", indexer, data) as client:
        bundled_model.tell_of_collection(collection, client.get_collection(collection).model.name)
