"""`glimpse index`: sends pictures to the indexer and tells what became of them."""

from __future__ import annotations

import enum
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glimpse.cli import addresses
from glimpse.cli.console import CommandError, print_table, printable, say
from glimpse.cli.metadata import read_metadata
from glimpse.cli.progress import Counter
from glimpse.cli.walk import find_pictures, image_file
from glimpse.results import Acknowledgement, ImageFile, Outcome

if TYPE_CHECKING:
    from glimpse.ingest import Ingest

_MAX_LISTED = 50


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
    with ExitStack() as stack:
        failure_file = _open_failures(failures, stack)
        client = stack.enter_context(addresses.connect("", indexer, data))
        ingest = stack.enter_context(
            client.index(collection, pictures, force=force, patience_s=patience)
        )
        counter = stack.enter_context(Counter("indexing", len(pictures), "images"))
        failed = _follow(ingest, counter, failure_file)
    _tell_summary(ingest, counter, collection)
    if failed:
        _tell_failed(failed)
        raise typer.Exit(1)


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


def _follow(ingest: Ingest, counter: Counter, failure_file: Any) -> list[Acknowledgement]:
    failed = []
    for acknowledgement in ingest:
        if acknowledgement.error is not None:
            failed.append(acknowledgement)
            if failure_file is not None:
                failure_file.write(json.dumps(_failure(acknowledgement)) + "\n")
                failure_file.flush()
        counts = ingest.counts
        counter.step(
            f"{counts[Outcome.UNCHANGED]:,} unchanged, {counts[Outcome.FAILED]:,} failed"
            f"{_interruptions(ingest)}"
        )
    return failed


def _interruptions(ingest: Ingest) -> str:
    return f", resumed {ingest.interruptions}x" if ingest.interruptions else ""


def _failure(acknowledgement: Acknowledgement) -> dict[str, str]:
    error = acknowledgement.error
    assert error is not None
    path = acknowledgement.image.address
    return {"path": path, "reason": error.reason, "message": str(error)}


def _tell_summary(ingest: Ingest, counter: Counter, collection: str) -> None:
    counts = ingest.counts
    say(
        f"{counts[Outcome.INDEXED]:,} indexed, {counts[Outcome.UNCHANGED]:,} unchanged, "
        f"{counts[Outcome.FAILED]:,} failed in {collection!r}{_interruptions(ingest)}, "
        f"{counter.seconds:.1f} s, {counter.per_second:,.0f} images/s."
    )


def _tell_failed(failed: list[Acknowledgement]) -> None:
    ordered = sorted(failed, key=lambda acknowledgement: acknowledgement.image.address)
    rows = []
    for acknowledgement in ordered[:_MAX_LISTED]:
        failure = _failure(acknowledgement)
        rows.append((failure["path"], failure["reason"], failure["message"]))
    print_table(("failed", "reason", "message"), rows)
    if len(failed) > _MAX_LISTED:
        say(f"and {len(failed) - _MAX_LISTED:,} more; --failures FILE keeps them all.")
