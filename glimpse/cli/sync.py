"""`glimpse sync`: a collection comes to hold what a folder holds."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from glimpse.cli import addresses
from glimpse.cli.console import CommandError, print_json, printable, say
from glimpse.cli.folder_state import FolderPictures, FolderState
from glimpse.cli.metadata import MetadataEntries
from glimpse.cli.passed_over import PassedOver
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
from glimpse.cli.walk import find_pictures

_LIST_TIMEOUT_S = 60.0  # of one page
_UNASKED_SHARE = 0.1
"""Of a folder's images, so many may be deleted without a question; or one."""
_SIGNS = {"+": "new", "~": "changed", ">": "moved"}


def sync(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder of this machine.")],
    collection: addresses.CollectionOption = addresses.DEFAULT_COLLECTION,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete images whose files are gone.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Delete them also where they are many.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be sent and deleted.")
    ] = False,
    checksum: Annotated[
        bool,
        typer.Option("--checksum", help="Read every file, whatever its size and time of change."),
    ] = False,
    metadata: MetadataOption = None,
    failures: FailuresOption = None,
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
    """Bring a collection in step with a folder.

    New pictures are indexed, changed ones replaced, moved ones keep their ids and are not encoded
    again. Files whose size and time of change are as before are not read. Images whose files are
    gone are counted, and deleted with --delete; never where the folder holds no picture at all, nor
    what lies in a part of it that cannot be read; and where they are several and more than a tenth
    of the folder's, only after a question or with --yes. What another folder's sync or glimpse
    index has put into the collection is left alone.

    What is taken of the folder is told by: glimpse index --help

    \b
    Examples:
        glimpse sync ~/Pictures --collection photos
        glimpse sync ~/Pictures --collection photos --delete --dry-run
    """
    state = FolderState(_readable(folder))
    with addresses.connect("", indexer, data, _LIST_TIMEOUT_S) as client:
        state.learn_from(client, collection)
    passed_over = PassedOver(verbose=verbose)
    selection = Selection(tuple(include or ()), tuple(exclude or ()), follow_links)
    found = find_pictures([str(folder)], selection, passed_over)
    pictures = FolderPictures(state, found, MetadataEntries(metadata), checksum=checksum)
    if dry_run:
        _list(pictures, state, collection, passed_over, as_json)
        if passed_over.problems:
            raise typer.Exit(1)
        return
    to = Destination(collection, indexer, data, patience, reads)
    with counted("syncing", to, passed_over, failures, as_json) as tally:
        send(pictures, tally, to)
        gone = state.gone(is_complete=not passed_over.problems)
        why_not = _why_not_delete(len(gone), pictures.found, state.total, yes) if delete else ""
        may_delete = delete and not why_not
        ids = [*pictures.replaced, *(known.id for known in gone.values() if may_delete)]
        with addresses.connect("", indexer, data, _LIST_TIMEOUT_S) as client:
            if ids:
                client.delete(collection, ids=ids)
    tally.notes = {
        "as before": pictures.as_before,
        "moved": pictures.moved,
        "deleted" if may_delete else "gone": len(gone),
    }
    tally.tell(as_json)
    if gone and not delete:
        say(f"The files of {len(gone):,} images are gone: --delete deletes these images.")
    elif why_not:
        say(why_not)
    if tally.has_failures or why_not:
        raise typer.Exit(1)


def _readable(folder: Path) -> Path:
    """The folder, absolute. Raises CommandError where it cannot be read."""
    try:
        with os.scandir(folder):
            return folder.absolute()
    except OSError as error:
        why = (error.strerror or "unknown reason").lower()
        raise CommandError(f"{folder}: the folder cannot be read: {why}") from error


def _why_not_delete(count: int, found: int, total: int, yes: bool) -> str:
    """Why images whose files are gone are kept though they should be deleted; "" if they are."""
    if not count:
        return ""
    if not found:
        return (
            f"The folder holds no picture, so nothing is deleted: its {count:,} images are kept. "
            "To delete them: glimpse delete --filter"
        )
    many = count > max(1, _UNASKED_SHARE * total)
    if not many or yes:
        return ""
    question = f"Delete {count:,} of {total:,} images, whose files are gone?"
    if sys.stdin.isatty() and typer.confirm(question, err=True):
        return ""
    return f"The files of {count:,} of {total:,} images are gone: --yes deletes so many."


def _list(
    pictures: FolderPictures,
    state: FolderState,
    collection: str,
    passed_over: PassedOver,
    as_json: bool,
) -> None:
    signed = ((pictures.sign_of(each), str(each.path)) for each in pictures.attempt())
    if as_json:
        by_sign: dict[str, list[str]] = {sign: [] for sign in _SIGNS}
        for sign, path in signed:
            by_sign[sign].append(path)
        print_json(
            {
                "collection": collection,
                **{_SIGNS[sign]: paths for sign, paths in by_sign.items()},
                "gone": sorted(state.gone(is_complete=not passed_over.problems)),
                "as_before": pictures.as_before,
                **passed_over.record(),
            }
        )
        return
    count = 0
    for sign, path in signed:
        count += 1
        print(f"{sign} {printable(path)}")
    gone = state.gone(is_complete=not passed_over.problems)
    for uri in sorted(gone):
        print(f"- {printable(uri)}")
    if passed_over.counts:
        say(f"{passed_over.summary()}.")
    say(
        f"{count:,} pictures would be sent (+ new, ~ changed, > moved), {pictures.as_before:,} are "
        f"as before, the files of {len(gone):,} images are gone (-)."
    )
