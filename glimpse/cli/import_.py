"""`glimpse import`: rows with vectors, of an export or made elsewhere, go into a collection."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glimpse.cli import addresses, index_progress
from glimpse.cli.console import CommandError, say
from glimpse.cli.progress import Counter
from glimpse.cli.search import JsonOption
from glimpse.cli.sending import open_failures
from glimpse.cli.sending_options import PatienceOption
from glimpse.errors import GlimpseError

if TYPE_CHECKING:
    from glimpse.cli.backup.sources import Found
    from glimpse.indexer.v1.indexer_pb2 import ImportOptions

_TIMEOUT_S = 30.0


def import_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the files are.")],
    collection: Annotated[
        str | None,
        typer.Option(
            "--collection",
            "-c",
            metavar="NAME",
            help="The collection; created if it is not there.",
            show_default="the exported one's name",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="The model that made foreign vectors."),
    ] = None,
    fingerprint: Annotated[
        str,
        typer.Option(
            "--fingerprint",
            metavar="TEXT",
            help="That model's fingerprint, as an encoder that runs it gives it. Without it the "
            "collection can be searched by vector and by image id only.",
        ),
    ] = "",
    id_column: Annotated[
        str,
        typer.Option(
            "--id-column",
            metavar="COLUMN",
            help="Foreign files: the ids. What can be no id is replaced by a hash of it.",
            show_default="id, or that of the uris",
        ),
    ] = "",
    vector_column: Annotated[
        str,
        typer.Option(
            "--vector-column",
            metavar="COLUMN",
            help="Foreign files: the vectors.",
            show_default="vector, embedding, image_embedding or embeddings",
        ),
    ] = "",
    uri_column: Annotated[
        str,
        typer.Option(
            "--uri-column",
            metavar="COLUMN",
            help="Foreign files: where the pictures are.",
            show_default="uri, url, image_path or path",
        ),
    ] = "",
    metadata_columns: Annotated[
        str | None,
        typer.Option(
            "--metadata-columns",
            metavar="A,B",
            help="Foreign files: columns that become metadata; '' for none.",
            show_default="all others",
        ),
    ] = None,
    normalise: Annotated[
        bool,
        typer.Option("--normalise", "--normalize", help="Bring vectors to length 1."),
    ] = False,
    incomplete: Annotated[
        bool,
        typer.Option("--incomplete", help="Take an export that has not come to its end."),
    ] = False,
    failures: Annotated[
        Path | None,
        typer.Option("--failures", metavar="FILE", help="Write rejected rows and reasons here."),
    ] = None,
    patience: PatienceOption = 120.0,
    as_json: JsonOption = False,
    indexer: addresses.IndexerOption = None,
    data: addresses.DataOption = None,
) -> None:
    """Read exported files, or embeddings made elsewhere, into a collection.

    A folder that glimpse export has written says which model made its vectors; a collection of
    another model refuses them. Of others, it takes Parquet files with a column of vectors, .npy
    files with a Parquet file of the same name beside each, and what clip-retrieval writes
    (img_emb/ and metadata/); --model says what made them. A row of an id that is there is replaced.
    When the command is stopped, the same command goes on.

    The exit code is 1 when any row was rejected.

    \b
    Examples:
        glimpse import backup/photos
        glimpse import embeddings --collection art --model ViT-L/14 --id-column key --normalise
    """
    from glimpse.cli.backup.foreign import Columns  # pyarrow, which may be missing
    from glimpse.cli.backup.layout import keep_pandas_out
    from glimpse.cli.backup.report import ImportReport
    from glimpse.cli.backup.sources import find
    from glimpse.cli.backup.transfer import Transfer

    keep_pandas_out()
    names = None if metadata_columns is None else _names(metadata_columns)
    columns = Columns(id_column, vector_column, uri_column, names)
    found = find(folder, columns, incomplete=incomplete)
    options = _options(found, collection, model, fingerprint)
    options.normalise = normalise
    counter = Counter("importing", found.rows, "rows")
    with ExitStack() as stack:
        client = stack.enter_context(addresses.connect("", indexer, data, _TIMEOUT_S))
        file = stack.enter_context(open_failures(failures))
        report = ImportReport(options.collection, counter, file)
        transfer = Transfer(client, folder, found, options, columns, report)
        try:
            with counter:
                transfer.run(patience)
        except (KeyboardInterrupt, GlimpseError, CommandError) as end:
            if report.has_begun:
                report.tell(as_json, is_whole=False)
                say("Run the same command again to go on.")
            if isinstance(end, KeyboardInterrupt):
                raise typer.Exit(130) from None
            raise
        with suppress(GlimpseError, KeyboardInterrupt):  # all is written, whatever is seen of it
            there = client.get_collection(options.collection, exact=True)
            report.collection_rows = there.rows
            index_progress.follow(client, there)
    report.tell(as_json, is_whole=True)
    if report.rejected:
        raise typer.Exit(1)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in map(str.strip, text.split(",")) if name)


def _options(
    found: Found, collection: str | None, model: str | None, fingerprint: str
) -> ImportOptions:
    """Where the rows go, and what made their vectors. Raises CommandError where nobody says so."""
    from glimpse import converters
    from glimpse.indexer.v1.indexer_pb2 import ImportOptions

    origin = found.origin
    if origin is not None:
        if model or fingerprint:
            raise CommandError(
                f"the files say which model made their vectors: {origin.model_name!r} "
                f"({origin.model_fingerprint}); leave --model and --fingerprint out"
            )
        return ImportOptions(
            collection=collection or origin.collection,
            create_collection=True,
            model_name=origin.model_name,
            model_fingerprint=origin.model_fingerprint,
            dimension=origin.dimension,
            metric=converters.metric(origin.metric),
        )
    if not model:
        raise CommandError("say which model made the vectors: --model NAME")
    if not collection:
        raise CommandError("say which collection they go into: --collection NAME")
    return ImportOptions(
        collection=collection,
        create_collection=True,
        model_name=model,
        model_fingerprint=fingerprint,
        dimension=found.dimension,
    )
