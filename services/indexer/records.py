"""The indexer's records of images and collections."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from glimpse.errors import InvalidInput
from glimpse.results import Outcome
from services.common.encoder_client import EncoderModel
from services.vectors.metadata import NO_METADATA, Metadata
from services.vectors.records import CollectionInfo

Vector = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Image:
    """An image as it came, checked in its metadata alone. An empty id stands for one made of the
    content.

    With a `problem` it has failed before it began.
    """

    sequence: int
    content: bytes | memoryview  # of the message that it came in
    id: str = ""
    uri: str = ""
    metadata: Metadata = NO_METADATA
    indexed_at_ms: int = 0  # of the row that is carried over; 0: it is none
    problem: InvalidInput | None = None


class ImageResult(NamedTuple):
    """What became of one image; `error` is set if and only if it failed."""

    sequence: int
    id: str
    outcome: Outcome
    error: Exception | None = None


@dataclass(frozen=True)
class Target:
    """Where a stream writes, the model that its vectors must be of, and how.

    `address` is that of the generation, and empty for whichever serves. Where it `carries`, images
    are rows of another generation, and written only where this one has nothing as new under their
    ids. Where it `is_interactive`, somebody waits for the few images that there are.
    """

    collection: str
    model: EncoderModel
    force: bool = False  # index again what is there unchanged
    max_wait_s: float = math.inf  # for a peer that is away, where that is less than the settings'
    keep_copies: bool = False  # images without an id: one row for each uri
    address: str = ""
    carries: bool = False
    is_interactive: bool = False

    @property
    def place(self) -> str:
        """What the store is told."""
        return self.address or self.collection


class GenerationInfo(NamedTuple):
    """A generation of a collection: what it is now."""

    number: int
    is_serving: bool
    info: CollectionInfo


class ListedCollection(NamedTuple):
    """A collection in a list: what it is, or the error for which that cannot be said."""

    name: str
    info: CollectionInfo | None = None
    error: Exception | None = None


class Attributes(NamedTuple):
    """What is stored of an image besides its picture; checked."""

    id: str
    content_sha256: str  # hexadecimal
    uri: str
    metadata: Metadata
    copy_id: str = ""  # of its row, where `id` is that of the same content under another uri
    indexed_at_ms: int = 0  # of the row that is carried over; 0: it is none


class FoundImage(NamedTuple):
    """What the collection has of an image: nothing, its picture, or all of it."""

    id: str  # of the image's row
    is_unchanged: bool = False
    picture: EncodedPicture | None = None  # of a row with the same content


class EncodedPicture(NamedTuple):
    """What encoding and decoding tell about an image."""

    vector: Vector  # float32 [dimension], unit
    width: int  # of the whole picture, in pixels
    height: int
    format: str
