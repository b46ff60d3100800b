"""The files that rows of a collection were made of, as far as they can still be read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from glimpse.errors import GlimpseError, UnreadableFile
from glimpse.results import ImageFile, StoredImage
from glimpse.uris import path_of


@dataclass(frozen=True)
class StoredFile(ImageFile):
    """The file that a row was made of; what became another one since is not read for it."""

    content_sha256: str = ""

    def read(self, max_bytes: int | None = None) -> bytes:
        content = super().read(max_bytes)
        if self.content_sha256 not in ("", hashlib.sha256(content).hexdigest()):
            raise UnreadableFile(f"{self.address} is not the file any more that was indexed")
        return content


def file_of(row: StoredImage) -> StoredFile:
    """Raises UnreadableFile for a row whose uri leads to no file."""
    path = path_of(row.uri)
    if path is None and "://" not in row.uri:
        raise UnreadableFile("it was indexed without the address of a file")
    try:
        return StoredFile(
            path=path,
            url=row.uri if path is None else None,
            id=row.id,
            uri=row.uri,
            metadata=row.metadata,
            indexed_at_ms=row.indexed_at_ms,
            content_sha256=row.content_sha256,
        )
    except (GlimpseError, ValueError, TypeError) as error:
        raise UnreadableFile(f"{row.uri}: {error}") from error
