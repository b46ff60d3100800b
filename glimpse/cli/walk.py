"""Which pictures a command line means, in files or behind URLs, one after another."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from glimpse import fsspec_files
from glimpse.cli import lists
from glimpse.cli.console import CommandError
from glimpse.cli.local_tree import LocalTree, existing
from glimpse.cli.passed_over import LINKS, SPECIAL, PassedOver
from glimpse.cli.selection import Selection, matches
from glimpse.errors import UnreadableFile
from glimpse.results import ImageFile
from glimpse.uris import path_of

_MAGIC = frozenset("*?[")
_REASONS = {"link": LINKS, "broken": "broken links", "special": SPECIAL}

_Places = frozenset[int]
"""Which parts of a pattern may come next."""


class Tree(Protocol):
    """Folders and files somewhere; see LocalTree and fsspec_files.UrlTree."""

    sorted_at_once: int
    """Entries of a folder that are sorted: in larger ones, pictures come before all is read."""

    def entries(self, folder: str) -> Iterator[tuple[str, str]]: ...
    def join(self, folder: str, name: str) -> str: ...
    def is_new(self, folder: str) -> bool: ...


def find_pictures(
    arguments: Iterable[str],
    selection: Selection | None = None,
    passed_over: PassedOver | None = None,
) -> Iterator[Path | str]:
    """Paths and URLs of the pictures that arguments name, each once.

    A file stands for itself, whatever its name; a folder for what is below it and `selection`
    takes, in the order of the names where no folder is huge; a pattern (with *, ? or [; ** for any
    depth) for the files and folders that it matches, unless something has that very name; @FILE for
    the files and folders in a list. URLs of object stores are folders, files and patterns as well.
    Nothing is read before it is asked for. What is passed over, or cannot be read, is told to
    `passed_over`. Raises CommandError for an argument that names nothing.
    """
    passed_over = passed_over or PassedOver()
    walk = Walk(selection or Selection(), passed_over)
    given = list(arguments)
    if len(given) == 1 and not _is_list(given[0]):
        return walk.named_by(given[0])  # a folder holds each file once: nothing is kept of it
    return _each_once(_named_by_all(walk, given, passed_over))


def image_file(picture: Path | str) -> ImageFile:
    """What `glimpse.Client.index` takes of a picture that `find_pictures` has found."""
    return ImageFile(url=picture) if isinstance(picture, str) else ImageFile(path=picture)


def _named_by_all(
    walk: Walk, arguments: Sequence[str], passed_over: PassedOver
) -> Iterator[Path | str]:
    """What each argument means; one of several that means nothing does not end all."""
    for argument in arguments:
        try:
            yield from walk.named_by(argument)
        except CommandError as error:
            if len(arguments) == 1:
                raise
            passed_over.fail(str(error))


def _each_once(pictures: Iterable[Path | str]) -> Iterator[Path | str]:
    seen: set[str] = set()
    for picture in pictures:
        address = image_file(picture).address
        if address not in seen:
            seen.add(address)
            yield picture


class Walk:
    """Finds pictures by one set of rules, wherever they are and however they are named."""

    def __init__(self, selection: Selection, passed_over: PassedOver) -> None:
        self._selection = selection
        self._passed_over = passed_over
        self._local = LocalTree(follow_links=selection.follow_links)

    def _check(self, argument: str) -> None:
        """Raises CommandError for an argument that can be seen to name nothing."""
        if _is_list(argument):
            if argument != "@-" and not os.path.exists(argument[1:]):
                raise CommandError(f"{argument}: the list cannot be read: no such file")
        elif not (_is_remote(argument) or _has_magic(argument) or existing(_local(argument))):
            raise CommandError(f"{argument}: no such file or folder")

    def named_by(self, argument: str) -> Iterator[Path | str]:
        """The pictures that one argument means. Raises CommandError where it names nothing."""
        self._check(argument)
        if _is_list(argument):
            for name in lists.names_in(argument[1:]):
                yield from self._listed(name)
        elif _is_remote(argument):
            yield from self._behind(argument)
        elif (path := existing(_local(argument))) is not None:
            yield from self._at(path)
        else:
            root, parts = _split(argument, os.sep if os.sep == "\\" else "/")
            found = self._below(self._local, root, parts) if os.path.isdir(root) else iter(())
            found = map(Path, found)
            yield from self._not_empty(found, f"{argument}: no such file or folder")

    def _listed(self, name: str) -> Iterator[Path | str]:
        """A list holds names, no patterns; what is not there fails by itself when it is read."""
        if _is_remote(name):
            yield name
        else:
            path = _local(name)
            yield from self._at(existing(path) or path)

    def _at(self, path: str) -> Iterator[Path | str]:
        return map(Path, self._below(self._local, path) if os.path.isdir(path) else (path,))

    def _behind(self, url: str) -> Iterator[Path | str]:
        nothing = f"{url}: no such object, and no picture in such a folder"
        try:
            tree = fsspec_files.UrlTree(url)
            kind = tree.kind(tree.root)
        except UnreadableFile as error:
            raise CommandError(str(error)) from error
        if kind == "file":
            yield tree.picture(tree.root)
        elif kind == "folder":
            found = self._below(tree, tree.root)
            yield from self._not_empty(map(tree.picture, found), nothing)
        elif _has_magic(_without_query(tree.root)):
            found = self._below(tree, *_split(tree.root, "/"))
            yield from self._not_empty(map(tree.picture, found), nothing)
        else:
            raise CommandError(nothing)

    def _not_empty(self, pictures: Iterator[Path | str], otherwise: str) -> Iterator[Path | str]:
        """The pictures; CommandError where there is nothing, not even something to pass over."""
        before = self._passed_over.counts.total()
        first = next(pictures, None)
        if first is not None:
            yield first
            yield from pictures
        elif self._passed_over.counts.total() == before:
            raise CommandError(otherwise)

    def _below(self, tree: Tree, root: str, parts: Sequence[str] = ("**",)) -> Iterator[str]:
        """The paths of the pictures below a folder that a pattern, by its parts, matches.

        On its way down it knows at which parts of the pattern it may be, so that each folder is
        read once, however many ** there are.
        """
        pending = [(root, "", iter([("", _closed({0}, parts))]))]
        while pending:
            parent, parent_below, folders = pending[-1]
            name, places = next(folders, (None, frozenset()))
            if name is None:
                pending.pop()
                continue
            folder = tree.join(parent, name) if name else parent
            below = f"{parent_below}{name}/" if name else ""
            inner: list[tuple[str, _Places]] = []
            if tree.is_new(folder):
                yield from self._in_folder(tree, folder, below, places, parts, inner)
            pending.append((folder, below, iter(sorted(inner, key=lambda each: each[0]))))

    def _in_folder(
        self,
        tree: Tree,
        folder: str,
        below: str,
        places: _Places,
        parts: Sequence[str],
        inner: list[tuple[str, _Places]],
    ) -> Iterator[str]:
        """The pictures in one folder; adds the folders in it that are to be looked at."""
        everywhere, start = frozenset((-1, len(parts))), tree.join(folder, "")
        for name, kind in self._entries(tree, folder):
            next_places = everywhere if places is _WHOLE else _step(places, name, parts)
            if not next_places:
                continue
            path = start + name
            is_folder = kind == "folder"
            if why_not := self._why_not(name, below + name, kind):
                self._passed_over.add(path, why_not)
            elif is_folder:
                # A folder that a pattern matches is taken whole.
                inner.append((name, _WHOLE if len(parts) in next_places else next_places))
            elif len(parts) in next_places:
                self._passed_over.pictures += 1
                yield path

    def _why_not(self, name: str, below: str, kind: str) -> str:
        if why_not := self._selection.why_not(name, below, is_file=kind == "file"):
            return why_not
        return _REASONS.get(kind, "")

    def _entries(self, tree: Tree, folder: str) -> Iterator[tuple[str, str]]:
        """Name and kind of what is in a folder, sorted where it is not too much."""
        entries = tree.entries(folder)
        while True:
            try:
                some = sorted(itertools.islice(entries, tree.sorted_at_once))
            except UnreadableFile as error:
                self._passed_over.fail(str(error))
                return
            if not some:
                return
            self._passed_over.entries += len(some)
            yield from some


_WHOLE: _Places = frozenset((-1,))
"""Below a folder that is taken whole."""


def _closed(places: set[int], parts: Sequence[str]) -> _Places:
    """The places, and those behind each ** there, which may stand for nothing."""
    for place in sorted(places):
        while place < len(parts) and parts[place] == "**":
            place += 1
            places.add(place)
    return _WHOLE if len(parts) in places and parts[-1] == "**" else frozenset(places)


def _step(places: _Places, name: str, parts: Sequence[str]) -> _Places:
    """Where in the pattern one is behind `name`; empty where it does not match."""
    after = {place for place in places if place < len(parts) and parts[place] == "**"}
    after |= {
        place + 1
        for place in places
        if place < len(parts) and parts[place] != "**" and matches(name, parts[place])
    }
    return _closed(after, parts) if after else frozenset()


def _is_list(argument: str) -> bool:
    return argument.startswith("@") and not os.path.lexists(argument)


def _is_remote(name: str) -> bool:
    return fsspec_files.is_url(name) and path_of(name) is None


def _local(name: str) -> str:
    """The path that a name of something on this machine means; file:// URLs are such names."""
    return str(path_of(name)) if fsspec_files.is_url(name) else name


def _has_magic(text: str) -> bool:
    return not _MAGIC.isdisjoint(text)


def _without_query(path: str) -> str:
    """What may be a pattern: a web address' question mark begins what it is asked."""
    return path.partition("?")[0] if path.startswith(("http://", "https://")) else path


def _split(pattern: str, separator: str) -> tuple[str, list[str]]:
    """The folder that a pattern begins with, and its parts from there on."""
    parts = pattern.split(separator)
    count = next(number for number, part in enumerate(parts) if _has_magic(part))
    root = separator.join(parts[:count])
    if not root:
        root = separator if count else os.curdir
    return root, [part for part in parts[count:] if part]
