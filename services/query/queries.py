"""What a search looks for and how, checked against every bound; finding it is not its job.

Each part knows its `field`, the path in the request that errors name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from glimpse.errors import InvalidImage, InvalidInput
from services.common.text_bounds import MAX_TEXT_CHARACTERS, check_text
from services.vectors import bounds
from services.vectors.store import ALL_FIELDS, AnyFilter

MAX_TEMPLATE_CHARACTERS = 1_024
MAX_TERMS = 16
MAX_WEIGHT = 100.0
MAX_LIMIT = 1_000
MAX_QUERIES = 256
MAX_BATCH_WINDOW = 65_536  # rows that one batch may make Milvus return
MAX_IDS = 1_000
DEFAULT_LIMIT = 10

DEFAULT_FIELDS = ("uri", "width", "height", "format", "metadata")


@dataclass(frozen=True)
class Text:
    """Words to look for."""

    field: str
    text: str

    def __post_init__(self) -> None:
        check_text(self.field, self.text, MAX_TEXT_CHARACTERS)


@dataclass(frozen=True)
class PictureFile:
    """A picture file to compare with."""

    field: str
    content: bytes
    max_bytes: int

    def __post_init__(self) -> None:
        if not self.content:
            raise InvalidImage(self.field, "the file is empty", reason="IMAGE_EMPTY")
        if len(self.content) > self.max_bytes:
            raise InvalidImage(
                self.field,
                f"has {len(self.content)} bytes; at most {self.max_bytes} are taken",
                reason="IMAGE_TOO_LARGE",
            )


@dataclass(frozen=True)
class IndexedImage:
    """The id of an image of the collection."""

    field: str
    id: str

    def __post_init__(self) -> None:
        bounds.check_id(self.id, self.field)


@dataclass(frozen=True)
class Given:
    """A vector of the caller's, float32 [D]; the collection's dimension is compared later."""

    field: str
    vector: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.vector.size == 0:
            raise InvalidInput(self.field, "must not be empty")
        if not np.isfinite(self.vector).all():
            raise InvalidInput(self.field, "must be finite numbers")
        if not self.vector.any():
            raise InvalidInput(self.field, "must not be all zero", reason="ZERO_QUERY")


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

    def __post_init__(self) -> None:
        if not 1 <= len(self.terms) <= MAX_TERMS:
            raise InvalidInput(f"{self.field}.terms", f"must be 1 to {MAX_TERMS} terms")

    @property
    def image_ids(self) -> frozenset[str]:
        return frozenset(term.part.id for term in self.terms if isinstance(term.part, IndexedImage))


@dataclass(frozen=True)
class Options:
    """How many hits, which, and what of them."""

    limit: int = DEFAULT_LIMIT
    offset: int = 0
    filter: AnyFilter = ""  # which images may be hits; empty: all
    min_score: float | None = None
    fields: tuple[str, ...] = DEFAULT_FIELDS
    strong: bool = False  # whether everything acknowledged before the call must be seen
    prompt_template: str = ""
    include_query_images: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= MAX_LIMIT:
            raise InvalidInput("options.limit", f"must be 1 to {MAX_LIMIT}, not {self.limit}")
        if self.offset < 0:
            raise InvalidInput("options.offset", f"must be 0 or more, not {self.offset}")
        if self.offset + self.limit > bounds.MAX_WINDOW:
            raise InvalidInput(
                "options.offset",
                f"plus limit must be at most {bounds.MAX_WINDOW}, not {self.offset + self.limit}",
            )
        if self.min_score is not None and not -1 <= self.min_score <= 1:
            raise InvalidInput("options.min_score", f"must be from -1 to 1, not {self.min_score:g}")
        check_fields("options.output_fields", self.fields)
        self._check_template()

    def _check_template(self) -> None:
        field, template = "options.prompt_template", self.prompt_template
        if not template:
            return
        check_text(field, template, MAX_TEMPLATE_CHARACTERS)
        if template.count("{}") != 1:
            raise InvalidInput(field, 'must hold "{}" exactly once, such as "a photo of a {}"')

    def prompt(self, text: Text) -> str:
        """The text with the template around it; raises InvalidInput if that is too long."""
        if not self.prompt_template:
            return text.text
        prompt = self.prompt_template.replace("{}", text.text)
        if len(prompt) > MAX_TEXT_CHARACTERS:
            raise InvalidInput(
                text.field,
                f"has {len(prompt)} characters with options.prompt_template around it; "
                f"at most {MAX_TEXT_CHARACTERS} are taken",
                reason="TEXT_TOO_LONG",
            )
        return prompt


def check_ids(field: str, ids: Sequence[str]) -> None:
    """Raises InvalidInput for a wrong number of ids or a wrong id among them."""
    if not 1 <= len(ids) <= MAX_IDS:
        raise InvalidInput(field, f"must be 1 to {MAX_IDS} ids, not {len(ids)}")
    for index, identity in enumerate(ids):
        bounds.check_id(identity, f"{field}[{index}]")


def check_fields(field: str, names: Sequence[str]) -> None:
    """Raises InvalidInput for an attribute that images do not have."""
    for index, name in enumerate(names):
        if name not in ALL_FIELDS:
            known = ", ".join(ALL_FIELDS)
            raise InvalidInput(f"{field}[{index}]", f"must be one of {known}, not {name[:64]!r}")


def check_batch(queries: int, options: Options) -> None:
    """Raises InvalidInput for a wrong number of queries, or for more rows than one answer holds."""
    if not 1 <= queries <= MAX_QUERIES:
        raise InvalidInput("queries", f"must be 1 to {MAX_QUERIES} queries")
    window = queries * (options.offset + options.limit)
    if window > MAX_BATCH_WINDOW:
        raise InvalidInput(
            "options.limit",
            f"queries x (offset + limit) must be at most {MAX_BATCH_WINDOW}, not {window}",
        )
