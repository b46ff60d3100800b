"""What a collection holds of a folder, beside what the folder holds: what is new, what has changed,
what has moved and what is gone."""

from __future__ import annotations

import contextlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from glimpse.cli.metadata import MetadataEntries
from glimpse.cli.pending import Pending
from glimpse.cli.progress import Counter
from glimpse.errors import NotFound
from glimpse.files import sha256_of
from glimpse.results import Acknowledgement, ImageFile, Outcome, StoredImage
from glimpse.uris import path_of, uri_of

if TYPE_CHECKING:
    from glimpse.client import Client

MARK = "glimpse"
"""The key of metadata under which sync keeps what it knows of a row's file: the folder that was
synchronised, the file's size in bytes, and when it was changed, in milliseconds."""


class KnownFile(NamedTuple):
    """What the collection says of one file of the folder."""

    id: str
    size_bytes: int
    changed_ms: int
    content_sha256: str
    metadata: dict[str, Any]


class FolderState:
    """The files of one folder that a collection knows, until they are found.

    Rows that other folders' syncs have written are not among them, nor those of `glimpse index`.
    """

    def __init__(self, folder: Path) -> None:
        self.root = uri_of(folder)
        self._known: dict[str, KnownFile] = {}
        self._by_size: dict[int, list[str]] | None = None  # once something new is found
        self.total = 0
        """How many files the collection knew."""

    @property
    def filter(self) -> str:
        """Takes the folder's rows, and others: those of every sync and index below it."""
        path = path_of(self.root)
        assert path is not None
        # Of files whose names are no text, the uris are URLs.
        prefixes = {each.rstrip("/") + "/" for each in (self.root, path.as_uri())}
        return " or ".join(sorted(map(_range, prefixes)))

    def learn_from(self, client: Client, collection: str) -> None:
        """Takes note of what a collection has of the folder, if it is there, and shows how far."""
        fields = ("uri", "content_sha256", "metadata")
        shown = Counter("looking up", None, "images", lambda: f"{self.total:,} images known")
        with shown, contextlib.suppress(NotFound):
            self.learn(client.list_images(collection, self.filter, fields))

    def learn(self, rows: Iterable[StoredImage]) -> None:
        """Takes note of the rows that are this folder's."""
        for row in rows:
            mark = row.metadata.get(MARK)
            if not isinstance(mark, dict) or mark.get("root") != self.root:
                continue
            metadata = {key: value for key, value in row.metadata.items() if key != MARK}
            size_bytes, changed_ms = mark.get("size", -1), mark.get("changed_ms", -1)
            self._known[row.uri] = KnownFile(
                row.id, size_bytes, changed_ms, row.content_sha256, metadata
            )
            self.total = len(self._known)

    def take(self, uri: str) -> KnownFile | None:
        """What is known of a file that is there; it is not gone."""
        return self._known.pop(uri, None)

    def take_moved(self, path: str, size_bytes: int) -> KnownFile | None:
        """What is known of the same picture where it was, if it is not there any more."""
        if self._by_size is None:
            self._by_size = defaultdict(list)
            for uri, known in self._known.items():
                self._by_size[known.size_bytes].append(uri)
        candidates = [uri for uri in self._by_size.get(size_bytes, ()) if self._is_lost(uri)]
        if not candidates:
            return None
        try:
            sha256 = sha256_of(Path(path))
        except OSError:
            return None  # whoever reads it says why
        for uri in candidates:
            if self._known[uri].content_sha256 == sha256:
                return self._known.pop(uri)
        return None

    def _is_lost(self, uri: str) -> bool:
        return uri in self._known and is_gone(uri)

    def gone(self, *, is_complete: bool) -> dict[str, KnownFile]:
        """By uri, what was not found. Unless the walk was complete, only where there is no file."""
        return {uri: known for uri, known in self._known.items() if is_complete or is_gone(uri)}


class FolderPictures(Pending):
    """The pictures of a folder that are to be sent, and the rows that others replace."""

    def __init__(
        self,
        state: FolderState,
        pictures: Iterable[Path | str],
        entries: MetadataEntries,
        *,
        checksum: bool,
    ) -> None:
        super().__init__(self._to_send(pictures))
        self._state = state
        self._entries = entries
        self._checksum = checksum
        self._before: dict[str, str] = {}  # by uri, the row of a file's former content
        self.found = 0
        self.as_before = 0
        self.moved = 0
        self.replaced: list[str] = []
        """Rows of files whose new content has one of its own."""

    def sign_of(self, image: ImageFile) -> str:
        """What a picture is that is to be sent: "+" new, "~" changed, ">" moved."""
        if image.id:
            return ">"
        return "~" if image.address in self._before else "+"

    def done(self, acknowledgement: Acknowledgement) -> None:
        """As Pending does, and notes the row that is not needed any more."""
        super().done(acknowledgement)
        before = self._before.pop(acknowledgement.image.address, None)
        is_in = acknowledgement.outcome is not Outcome.FAILED
        if before is not None and is_in and acknowledgement.id != before:
            self.replaced.append(before)

    def _to_send(self, pictures: Iterable[Path | str]) -> Iterator[ImageFile]:
        for picture in pictures:
            self.found += 1
            image = self._image_of(os.fspath(picture))
            if image is not None:
                yield image

    def _image_of(self, path: str) -> ImageFile | None:
        """What is to be sent of a file; None for one that is as before, of which there may be
        millions: for these, as little as possible is done."""
        uri = uri_of(path)
        try:
            status = os.stat(path)
        except OSError:
            return ImageFile(path=Path(path))  # reading it says why
        size_bytes, changed_ms = status.st_size, status.st_mtime_ns // 1_000_000
        known, identity = self._state.take(uri), ""
        given = self._entries.of(uri)
        if known is None:
            known = self._state.take_moved(path, size_bytes)
            if known is not None:
                self.moved += 1
                identity = known.id
        else:
            is_same = (known.size_bytes, known.changed_ms) == (size_bytes, changed_ms)
            if is_same and not self._checksum and (not given or given == known.metadata):
                self.as_before += 1
                return None
            self._before[uri] = known.id
        mark = {"root": self._state.root, "size": size_bytes, "changed_ms": changed_ms}
        metadata = {**(given or (known.metadata if known else {})), MARK: mark}
        return ImageFile(path=Path(path), id=identity, metadata=metadata)


def is_gone(uri: str) -> bool:
    """Whether no file is where a uri says; not so where that cannot be found out."""
    path = path_of(uri)
    try:
        os.lstat(path or uri)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def _range(prefix: str) -> str:
    """Milvus' expression for what begins with a text whose last character is a slash."""
    after = prefix[:-1] + "0"
    return f"(uri >= {_literal(prefix)} and uri < {_literal(after)})"


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
