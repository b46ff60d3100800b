"""`glimpse export`: a collection becomes Parquet files, which `glimpse import` reads."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glimpse.cli import addresses
from glimpse.cli.console import CommandError, print_json, say
from glimpse.cli.generations import serving_in
from glimpse.cli.progress import Counter
from glimpse.cli.search import JsonOption
from glimpse.cli.sending_options import PatienceOption
from glimpse.errors import GlimpseError
from glimpse.results import Collection

if TYPE_CHECKING:
    from glimpse.cli.backup.writer import BackupWriter
    from glimpse.client import Client
    from glimpse.indexer.v1.indexer_pb2 import ListImagesResponse

_PAGE_TIMEOUT_S = 60.0
_PAGES_AHEAD = 2  # of those that are written


def export(
    collection: Annotated[str, typer.Argument(metavar="COLLECTION", help="The collection.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the files go.")],
    file_mb: Annotated[
        int, typer.Option("--file-mb", min=1, metavar="MB", help="About how large a file becomes.")
    ] = 128,
    patience: PatienceOption = 120.0,
    as_json: JsonOption = False,
    indexer: addresses.IndexerOption = None,
    data: addresses.DataOption = None,
) -> None:
    """Write a collection into Parquet files, vectors and all.

    The files hold every row with its id, vector, attributes and metadata, and say which model made
    the vectors: a backup, and the way to another store, by glimpse import. A file gets its name
    when it is whole. When the command is stopped, by whatever, the same command goes on behind the
    last whole file; export.json is written last. Rows that are written or deleted meanwhile may be
    in the files or not; all others are there once.

    \b
    Example:
        glimpse export photos backup/photos
    """
    from glimpse.cli.backup.ahead import made_ahead
    from glimpse.cli.backup.layout import Origin, keep_pandas_out  # pyarrow, which may be missing
    from glimpse.cli.backup.writer import BackupWriter

    keep_pandas_out()
    with addresses.connect("", indexer, data, _PAGE_TIMEOUT_S) as client:
        serving = client.get_collection(_serving(client, collection), exact=True)
        found = replace(serving, name=collection)
        origin = Origin(
            found.name, found.model.name, found.model.fingerprint, found.dimension, found.metric
        )
        try:
            writer = BackupWriter(folder, origin, file_mb * 10**6)
        except OSError as error:
            raise _unwritable(folder, error) from error
        if writer.rows:
            say(f"Going on behind {writer.rows:,} rows in {len(writer.files):,} files.")
        counter = Counter("exporting", max(found.rows - writer.rows, 0), "rows")
        try:
            with counter:
                pages = _pages(client, serving, writer.after_id, patience)
                _write(made_ahead(pages, _PAGES_AHEAD), writer, counter)
        except OSError as error:
            raise _unwritable(folder, error) from error
        except (KeyboardInterrupt, GlimpseError, CommandError) as end:
            say("Run the same command again to go on behind the last whole file.")
            if isinstance(end, KeyboardInterrupt):
                raise typer.Exit(130) from None
            raise
        finally:
            writer.abandon()
    _tell(found, writer, counter, folder, as_json)


def _write(
    pages: Generator[ListImagesResponse, None, None], writer: BackupWriter, counter: Counter
) -> None:
    with closing(pages):
        for page in pages:
            writer.add(page.images)
            counter.step(steps=len(page.images))
    writer.end()


def _serving(client: Client, collection: str) -> str:
    """What names the generation that serves, whichever does later: vectors of two are not mixed."""
    from google.rpc import code_pb2

    try:
        found = client.list_generations(collection, exact=False)
    except GlimpseError as error:
        if error.code != code_pb2.UNIMPLEMENTED:  # as of an indexer older than this command
            raise
        found = []
    serving = serving_in(found)
    return serving.collection.name if serving else collection


def _pages(
    client: Client, found: Collection, after_id: str, patience_s: float
) -> Iterator[ListImagesResponse]:
    from glimpse.cli.patience import patiently  # gRPC is loaded when a call is made

    # Counting a collection exactly sees all that was written before, and pages need not see more;
    # one that is not in memory is not counted.
    bounded = found.index_state != "NotLoaded"
    while True:
        ask = partial(client.export_page, found.name, after_id, bounded=bounded)
        page = patiently(ask, patience_s)
        yield page
        after_id, bounded = page.next_after_id, True
        if not after_id:
            return


def _unwritable(folder: Path, error: OSError) -> CommandError:
    why = (error.strerror or "unknown reason").lower()
    return CommandError(f"{error.filename or folder}: cannot be written: {why}")


def _tell(
    found: Collection, writer: BackupWriter, counter: Counter, folder: Path, as_json: bool
) -> None:
    if not as_json:
        say(
            f"{writer.rows:,} rows of {found.name!r} are in {len(writer.files):,} files of "
            f"{writer.bytes / 1e6:,.1f} MB in {folder}, {counter.seconds:.1f} s, "
            f"{counter.per_second:,.0f} rows/s."
        )
        return
    print_json(
        {
            "collection": found.name,
            "model": {"name": found.model.name, "fingerprint": found.model.fingerprint},
            "dimension": found.dimension,
            "rows": writer.rows,
            "files": list(writer.files),
            "bytes": writer.bytes,
            "seconds": round(counter.seconds, 3),
            "rows_per_s": round(counter.per_second, 1),
        }
    )
