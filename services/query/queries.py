"""What a search looks for and how; sizes are the job of bounds.py, finding it is search.py's.

Each part knows its `field`, the path in the request that errors name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from glimpse.errors import InvalidImage, InvalidInput
from services.common.text_bounds import check_template, check_text, in_template
from services.query.bounds import DEFAULT_LIMIT, check_page
from services.vectors.filters import AnyFilter
from services.vectors.records import ALL_FIELDS, CollectionSpec, Place

Vector = npt.NDArray[np.float32]

MAX_WEIGHT = 100.0
# A sum this much shorter than its weights is made of rounding errors.
_ZERO = 1e-4
DEFAULT_FIELDS = ("uri", "width", "height", "format", "metadata")


@dataclass(frozen=True)
class Text:
    """Words to look for."""

    field: str
    text: str

    def __post_init__(self) -> None:
        check_text(self.field, self.text)


@dataclass(frozen=True)
class PictureFile:
    """A picture file to compare with."""

    field: str
    content: bytes

    def __post_init__(self) -> None:
        if not self.content:
            raise InvalidImage(self.field, "the file is empty", reason="IMAGE_EMPTY")


@dataclass(frozen=True)
class IndexedImage:
    """The id of an image of the collection."""

    field: str
    id: str


@dataclass(frozen=True)
class Given:
    """A vector of the caller's, float32 [D]; the collection's dimension is compared later."""

    field: str
    vector: Vector

    def __post_init__(self) -> None:
        if self.vector.size == 0:
            raise InvalidInput(self.field, "must not be empty")
        if not np.isfinite(self.vector).all():
            raise InvalidInput(self.field, "must be finite numbers")
        if not self.vector.any():
            raise InvalidInput(self.field, "must not be all zero", reason="ZERO_QUERY")

    def unit_vector(self, dimension: int) -> Vector:
        """Scaled to length 1; raises InvalidInput unless it is of the collection's dimension."""
        if self.vector.size != dimension:
            raise InvalidInput(
                self.field,
                f"has {self.vector.size} values; the collection's vectors have {dimension}",
            )
        exact = self.vector.astype(np.float64)  # squares of float32 overflow float32
        return (exact / np.linalg.norm(exact)).astype(np.float32)


Part = Text | PictureFile | IndexedImage | Given


@dataclass(frozen=True)
class WeightedPart:
    """A part and how much it counts; a negative weight looks away from it."""

    field: str
    part: Part
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < abs(self.weight) <= MAX_WEIGHT:  # NaN compares false
            raise InvalidInput(
                f"{self.field}.weight",
                f"must be from {-MAX_WEIGHT:g} to {MAX_WEIGHT:g} and not 0, not {self.weight:g}",
            )


@dataclass(frozen=True)
class Query:
    """What to look for: the weighted sum of its terms; mostly there is one."""

    field: str
    terms: tuple[WeightedPart, ...]

    @property
    def image_ids(self) -> frozenset[str]:
        return frozenset(term.part.id for term in self.terms if isinstance(term.part, IndexedImage))

    def sum(self, vectors: Sequence[Vector]) -> Vector:
        """The terms' unit vectors, weighted and added, scaled to length 1; raises InvalidInput."""
        total = np.zeros(len(vectors[0]))
        for term, vector in zip(self.terms, vectors, strict=True):
            total += term.weight * vector
        length = np.linalg.norm(total)
        if length < _ZERO * sum(abs(term.weight) for term in self.terms):
            raise InvalidInput(
                self.field,
                "the terms cancel each other out",
                reason="ZERO_QUERY",
            )
        return (total / length).astype(np.float32)


@dataclass(frozen=True)
class PageOrigin:
    """The generation of the collection that a page came from."""

    generation: int
    created_at_ms: int  # 0: not known

    @classmethod
    def of(cls, collection: CollectionSpec) -> PageOrigin:
        return cls(collection.generation, collection.created_at_ms)


@dataclass(frozen=True)
class Options:
    """How many hits, which, and what of them."""

    limit: int = DEFAULT_LIMIT
    offset: int = 0
    after: Place | None = None  # the end of the page before, in place of an offset
    # Where that page came from; no part of what tokens are compared by, which is made of this.
    origin: PageOrigin | None = field(default=None, repr=False)
    filter: AnyFilter = ""  # which images may be hits; empty: all
    min_score: float | None = None
    fields: tuple[str, ...] = DEFAULT_FIELDS
    strong: bool = False  # whether everything acknowledged before the call must be seen
    prompt_template: str = ""  # empty: the model's own
    include_query_images: bool = False

    def __post_init__(self) -> None:
        check_page(self.limit, self.start)
        if self.min_score is not None and not -1 <= self.min_score <= 1:
            raise InvalidInput("options.min_score", f"must be from -1 to 1, not {self.min_score:g}")
        check_fields("options.output_fields", self.fields)
        check_template("options.prompt_template", self.prompt_template)

    @property
    def start(self) -> int:
        """How many hits come before the first one, or did when the page before was made."""
        return self.after.rank if self.after else self.offset

    def prompt(self, text: Text) -> str:
        """The text with the template around it."""
        return in_template(self.prompt_template, text.text)


def check_fields(field: str, names: Sequence[str]) -> None:
    """Raises InvalidInput for an attribute that images do not have."""
    for index, name in enumerate(names):
        if name not in ALL_FIELDS:
            known = ", ".join(ALL_FIELDS)
            raise InvalidInput(f"{field}[{index}]", f"must be one of {known}, not {name[:64]!r}")
