"""Which pictures a command line means, in files or behind URLs."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from glimpse import fsspec_files
from glimpse.cli.console import CommandError
from glimpse.errors import UnreadableFile
from glimpse.results import ImageFile

EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
)


def find_pictures(arguments: Iterable[str]) -> Iterator[Path | str]:
    """Paths and URLs of the pictures that arguments name, each once, sorted within each argument.

    A folder stands for every file below it with one of EXTENSIONS, except hidden ones; a file for
    itself, whatever its name; a pattern (with *, ? or [; ** for any depth) for all it matches;
    @FILE for the paths in a list, one on a line, or as "path" of a JSON object on a line. URLs of
    object stores are folders, files and patterns as well. Raises CommandError for what names
    nothing.
    """
    seen: set[str] = set()
    for argument in arguments:
        for picture in _named_by(argument):
            address = image_file(picture).address
            if address not in seen:
                seen.add(address)
                yield picture


def image_file(picture: Path | str) -> ImageFile:
    """What `glimpse.Client.index` takes of a picture that `find_pictures` has found."""
    return ImageFile(url=picture) if isinstance(picture, str) else ImageFile(path=picture)


def _named_by(argument: str) -> Iterator[Path | str]:
    path = Path(argument)
    if fsspec_files.is_url(argument):
        yield from _behind(argument)
    elif argument.startswith("@") and not path.exists():
        yield from _listed(Path(argument[1:]))
    elif path.is_dir():
        yield from _below(path)
    elif path.exists() or path.is_symlink():
        yield path
    elif glob.has_magic(argument) and (matches := glob.glob(argument, recursive=True)):
        for match in sorted(matches):
            if not os.path.isdir(match):
                yield Path(match)
            elif "**" not in argument:  # ** lists what is below by itself
                yield from _below(Path(match))
    else:
        raise CommandError(f"{argument}: no such file or folder")


def _behind(url: str) -> Iterator[str]:
    try:
        found = fsspec_files.find(url, _is_picture)
    except UnreadableFile as error:
        raise CommandError(str(error)) from error
    if not found:
        raise CommandError(f"{url}: no such object, and no picture in such a folder")
    yield from found


def _is_picture(path: str) -> bool:
    *folders, name = path.split("/")
    is_hidden = any(part.startswith(".") for part in (*folders, name))
    return not is_hidden and os.path.splitext(name)[1].lower() in EXTENSIONS


def _picture(address: str) -> Path | str:
    return address if fsspec_files.is_url(address) else Path(address)


def _below(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        why = (error.strerror or "unknown reason").lower()
        raise CommandError(f"{error.filename}: the folder cannot be read: {why}") from error

    for parent, folders, files in os.walk(folder, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if _is_picture(name):
                yield Path(parent, name)


def _listed(path: Path) -> Iterator[Path | str]:
    try:
        lines = path.read_text(errors="surrogateescape").splitlines()
    except OSError as error:
        why = (error.strerror or "unknown reason").lower()
        raise CommandError(f"@{path}: the list cannot be read: {why}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if not line.startswith("{"):
            yield _picture(line)
            continue
        try:
            yield _picture(json.loads(line)["path"])
        except (ValueError, KeyError, TypeError):
            raise CommandError(
                f'@{path} line {number}: is not a JSON object with a "path"'
            ) from None
