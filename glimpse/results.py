"""What goes into the client's calls and comes out of them, as plain values."""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glimpse import files, fsspec_files
from glimpse.arguments import check_fields
from glimpse.errors import GlimpseError
from glimpse.pictures.preprocessing import Preprocessing
from glimpse.uris import path_of, uri_of

Metadata = Mapping[str, Any]


@dataclass(frozen=True)
class Term:
    """One thing to look for, exactly one of text, image, image_id and vector, and its weight.

    `image` is a picture file's bytes or path. A negative weight looks away from the term. Raises
    TypeError or ValueError.
    """

    text: str | None = None
    image: bytes | str | os.PathLike[str] | None = None
    image_id: str | None = None
    vector: Sequence[float] | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        values = (self.text, self.image, self.image_id, self.vector)
        given = sum(value is not None for value in values)
        if given != 1:
            raise ValueError(f"give exactly one of text, image, image_id and vector, not {given}")


@dataclass(frozen=True)
class StoredImage:
    """One image of a collection; sizes are in pixels.

    Fields that were not asked for are empty; `vector`, `indexed_at_ms` and `content_sha256` come
    only when output_fields names them.
    """

    id: str
    uri: str = ""
    width: int = 0
    height: int = 0
    format: str = ""
    metadata: Metadata = field(default_factory=dict)
    indexed_at_ms: int = 0
    content_sha256: str = ""
    vector: tuple[float, ...] = ()

    @property
    def path(self) -> Path | None:
        """The file on this machine that the uri means, whatever its name; None if it means none."""
        return path_of(self.uri)


@dataclass(frozen=True)
class Hit(StoredImage):
    """One image that was found. `score` is the cosine to the query, from -1 to 1."""

    score: float = 0.0


@dataclass(frozen=True)
class Timing:
    """Where the time of a search went, in microseconds; total_us is all of it in the service."""

    queue_us: int
    encode_us: int
    search_us: int
    total_us: int


@dataclass(frozen=True)
class Model:
    """The model that made the vectors; vectors of two fingerprints must not be compared."""

    name: str
    fingerprint: str


@dataclass(frozen=True)
class CollectionModel:
    """The model of a collection, and how it sees pictures; None where this release of the client
    does not know how, and so cannot make the pixels that it sees."""

    model: Model
    preprocessing: Preprocessing | None


@dataclass(frozen=True)
class SearchResult:
    """The hits, best first. `next_page_token` is empty on the last page."""

    hits: list[Hit]
    next_page_token: str
    text_truncated: bool
    model: Model
    timing: Timing
    prompt_template: str = ""  # what texts were put into; empty: nothing
    generation: int = 0  # of the collection, that the hits are of


@dataclass(frozen=True)
class Answer:
    """What became of one query of a batch: hits, best first, or `error`, why there are none."""

    hits: list[Hit]
    text_truncated: bool
    error: GlimpseError | None = None
    prompt_template: str = ""  # what texts were put into; empty: nothing


@dataclass(frozen=True)
class BatchSearchResult:
    """The answers, in the order of the queries; `timing` is that of the batch."""

    answers: list[Answer]
    model: Model
    timing: Timing
    generation: int = 0  # of the collection, that all hits are of


@dataclass(frozen=True)
class FoundImages:
    """The images that are there, in the order asked, and the ids that are not."""

    images: list[StoredImage]
    missing_ids: list[str]


@dataclass(frozen=True)
class Collection:
    """A collection as it is now. `index_kind` and `metric` are Milvus' names, such as "HNSW".

    Of its `rows`, searches find `indexed_rows` through the index; of `pending_rows` it is being
    built, or built anew, which takes about another `index_left_s` seconds, where that is known.
    In a list, one that cannot be described has its name and the `error` only. `described_at_ms`:
    when this was said, by the indexer's clock, as the `indexed_at_ms` of images.
    """

    name: str
    model: Model
    dimension: int
    index_kind: str
    index_state: str
    metric: str
    rows: int
    bytes: int
    created_at_ms: int
    error: GlimpseError | None = None
    indexed_rows: int = 0
    pending_rows: int = 0
    index_left_s: float | None = None
    described_at_ms: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Generation:
    """One of a collection's generations; `serving`: the collection's name leads to it.

    The name of its `collection` is COLLECTION@NUMBER, which names this one in other calls.
    """

    number: int
    serving: bool
    collection: Collection


@dataclass(frozen=True)
class CollectionPage:
    """Some collections, by their names. `next_page_token` is empty on the last page."""

    collections: list[Collection]
    next_page_token: str


@dataclass(frozen=True)
class ImagePage:
    """Some images, in the order of their ids. `next_after_id` is empty on the last page."""

    images: list[StoredImage]
    next_after_id: str


@dataclass(frozen=True)
class ImageFile:
    """A picture to index: `content`, or the file at `path` or `url`, read when its turn comes.

    A URL is any that fsspec knows, such as s3://bucket/name.jpg, and needs the extra `s3`. Without
    `id` a picture gets the first 32 hexadecimal digits of its content's SHA-256. Without `uri` it
    gets its URL, or its absolute path; as a file:// URL where the name is not UTF-8 or has control
    characters. `indexed_at_ms` is only for a row that is carried over to another generation of its
    collection. Raises TypeError or ValueError.
    """

    path: str | os.PathLike[str] | None = None
    content: bytes | None = None
    id: str = ""
    uri: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    url: str | None = None
    indexed_at_ms: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        given = sum(value is not None for value in (self.path, self.content, self.url))
        if given != 1:
            raise ValueError(f"give exactly one of path, content and url, not {given}")

    @property
    def address(self) -> str:
        """What hits of this picture carry as their uri."""
        if self.uri or self.path is None:
            return self.uri or self.url or ""
        return uri_of(self.path)

    def read(self, max_bytes: int | None = None) -> bytes:
        """The picture file's bytes. Raises UnreadableFile, and InvalidInput for more than
        `max_bytes`, which are not read to their end."""
        if self.content is not None:
            return self.content
        if self.url is not None:
            return fsspec_files.read(self.url, max_bytes)
        assert self.path is not None
        return files.read(self.path, max_bytes)


class Outcome(enum.Enum):
    """What became of an image that was sent to be indexed."""

    INDEXED = "indexed"
    UNCHANGED = "unchanged"
    FAILED = "failed"


@dataclass(frozen=True)
class Acknowledgement:
    """What became of one image; `error` is set if and only if the outcome is FAILED."""

    image: ImageFile
    id: str
    outcome: Outcome
    error: GlimpseError | None = None
