"""`glimpse search` and `glimpse similar`: hits as a table, as JSON, or as a contact sheet."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Annotated

import typer

from glimpse.cli import addresses, bundled_model
from glimpse.cli.console import CommandError, print_json, print_table, say
from glimpse.results import Hit, SearchResult

LimitOption = Annotated[
    int, typer.Option("--limit", "-k", metavar="N", help="How many hits, at most 1,000.")
]
FilterOption = Annotated[
    str,
    typer.Option(
        "--filter",
        metavar="EXPRESSION",
        help="Milvus' expression over id, uri, width, height, format, indexed_at_ms and "
        "metadata, such as 'metadata[\"year\"] > 2000'.",
    ),
]
MinScoreOption = Annotated[
    float | None,
    typer.Option("--min-score", metavar="SCORE", help="Exclude hits below this score."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")]
SheetOption = Annotated[
    Path | None,
    typer.Option(
        "--sheet", metavar="FILE", help="Write a contact sheet (.png, .jpg, .webp) as well."
    ),
]


def search(
    text: Annotated[str, typer.Argument(help="What to look for, in words.")],
    collection: addresses.CollectionOption = addresses.DEFAULT_COLLECTION,
    limit: LimitOption = 10,
    filter: FilterOption = "",
    min_score: MinScoreOption = None,
    as_json: JsonOption = False,
    sheet: SheetOption = None,
    timeout: addresses.TimeoutOption = 10.0,
    query: addresses.QueryOption = None,
    data: addresses.DataOption = None,
) -> None:
    """Search pictures by words.

    \b
    Examples:
        glimpse search "a white dog"
        glimpse search "a white dog" -k 20 --filter 'width >= 1000' --sheet dogs.png
    """
    _check_sheet(sheet)
    with addresses.connect(query, "", data, timeout) as client:
        result = client.search(collection, text, limit=limit, filter=filter, min_score=min_score)
    if result.text_truncated:
        say("The text is longer than the model reads: its end was cut off.")
    _show(result, text, as_json, sheet)
    if not as_json:
        bundled_model.tell_of_search(collection, result.model.name, data)


def similar(
    image: Annotated[
        Path | None, typer.Argument(metavar="IMAGE", help="A picture file to compare with.")
    ] = None,
    image_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="An indexed image, in place of IMAGE.")
    ] = None,
    collection: addresses.CollectionOption = addresses.DEFAULT_COLLECTION,
    limit: LimitOption = 10,
    filter: FilterOption = "",
    min_score: MinScoreOption = None,
    as_json: JsonOption = False,
    sheet: SheetOption = None,
    timeout: addresses.TimeoutOption = 10.0,
    query: addresses.QueryOption = None,
    data: addresses.DataOption = None,
) -> None:
    """Search pictures that look like a given one.

    An indexed image that is named with --id is not among its own hits; a file may be.

    \b
    Examples:
        glimpse similar holiday.jpg
        glimpse similar --id 5f2c3a0d9b7e4c1122334455667788aa -k 5
    """
    if (image is None) == (image_id is None):
        raise typer.BadParameter("give either IMAGE or --id")
    _check_sheet(sheet)
    warnings.filterwarnings("ignore", "Image size", RuntimeWarning)  # of Pillow, on large pictures
    with addresses.connect(query, "", data, timeout) as client:
        result = client.search(
            collection,
            image=image,
            image_id=image_id,
            limit=limit,
            filter=filter,
            min_score=min_score,
        )
    _show(result, f"like {image.name if image else image_id}", as_json, sheet)
    if not as_json:
        bundled_model.tell_of_search(collection, result.model.name, data)


def show_hits(hits: list[Hit]) -> None:
    """The hits as a table, best first."""
    rows = []
    for rank, hit in enumerate(hits, start=1):
        caption = hit.metadata.get("caption", "")
        size = f"{hit.width}x{hit.height}" if hit.width else ""
        rows.append((str(rank), f"{hit.score:.3f}", hit.id, size, hit.uri, str(caption)))
    columns = ("rank", "score", "id", "size", "uri", "caption")
    if not any(row[-1] for row in rows):
        rows, columns = [row[:-1] for row in rows], columns[:-1]
    print_table(columns, rows)


def write_sheet(path: Path, title: str, hits: list[Hit]) -> None:
    """Writes the hits' contact sheet. Raises CommandError."""
    from glimpse.cli.sheet import contact_sheet, tile  # Pillow is loaded when it is needed

    try:
        contact_sheet(title, [tile(hit) for hit in hits]).save(path)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise CommandError(f"{path}: the sheet cannot be written: {why}") from error


def _check_sheet(sheet: Path | None) -> None:
    if sheet is not None and sheet.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise typer.BadParameter("a sheet's file must end in .png, .jpg or .webp")


def _show(result: SearchResult, title: str, as_json: bool, sheet: Path | None) -> None:
    if as_json:
        print_json(_as_json(result))
    elif result.hits:
        show_hits(result.hits)
    else:
        say("Nothing found.")
    if sheet is not None:
        write_sheet(sheet, title, result.hits)
        say(f"Sheet: {sheet}")


def _as_json(result: SearchResult) -> dict[str, object]:
    fields = ("id", "score", "uri", "width", "height", "format", "metadata")
    return {
        "hits": [{name: getattr(hit, name) for name in fields} for hit in result.hits],
        "model": result.model.name,
        "prompt_template": result.prompt_template,
        "text_truncated": result.text_truncated,
        "timing": dataclasses.asdict(result.timing),
    }
