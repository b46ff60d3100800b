"""Folders and files of this machine as a walk sees them, and paths as other systems write them."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path

from glimpse.cli.selection import normal
from glimpse.errors import UnreadableFile


class LocalTree:
    """What scandir tells. With `follow_links` a link is what it leads to, and each folder is new
    once, by device and inode, so that circles end."""

    sorted_at_once = 10_000

    def __init__(self, *, follow_links: bool) -> None:
        self._follow_links = follow_links
        self._seen: set[tuple[int, int]] = set()

    def entries(self, folder: str) -> Iterator[tuple[str, str]]:
        """Name and kind ("file", "folder", "link", "broken" or "special") of what is in a folder,
        in any order. Raises UnreadableFile."""
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    yield entry.name, self._kind(entry)
        except OSError as error:
            why = (error.strerror or "unknown reason").lower()
            message = f"{folder}: the folder cannot be read: {why}"
            raise UnreadableFile(message, reason="FILE_UNREADABLE", field="path") from error

    def join(self, folder: str, name: str) -> str:
        """The path of what is called `name` in a folder."""
        return name if folder == os.curdir else os.path.join(folder, name)

    def is_new(self, folder: str) -> bool:
        """Whether a walk that follows links has not been in this folder."""
        if not self._follow_links:
            return True
        try:
            status = os.stat(folder)
        except OSError:
            return True  # reading it says what is wrong
        key = (status.st_dev, status.st_ino)
        is_new = key not in self._seen
        self._seen.add(key)
        return is_new

    def _kind(self, entry: os.DirEntry[str]) -> str:
        try:
            if entry.is_symlink() and not self._follow_links:
                return "link"
            if entry.is_dir():
                return "folder"
            if entry.is_file():
                return "file"
            return "broken" if entry.is_symlink() and not os.path.exists(entry.path) else "special"
        except OSError:  # of a link that leads in a circle
            return "broken"


def existing(path: str) -> str | None:
    """The path where it is there, else what is there under the same name as other systems write
    it: with backslashes, or in the other normal form of Unicode."""
    for candidate in (path, path.replace("\\", "/")):
        if _is_there(candidate):
            return candidate
    return None if path.isascii() else _in_other_form(path)


def _is_there(path: str) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:  # a null character
        return False


def _in_other_form(path: str) -> str | None:
    pure = Path(path)
    current = pure.anchor
    for part in pure.parts[1:] if current else pure.parts:
        following = os.path.join(current, part)
        if not _is_there(following):
            name = _by_normal_form(current or os.curdir).get(normal(part))
            if name is None:
                return None
            following = os.path.join(current, name)
        current = following
    return current


@functools.lru_cache(16)
def _by_normal_form(folder: str) -> dict[str, str]:
    """Names in a folder that are not plain ASCII; kept, for a list names many of them."""
    try:
        return {normal(name): name for name in os.listdir(folder) if not name.isascii()}
    except OSError:
        return {}
