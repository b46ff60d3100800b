"""What any model's tokenizer gives; how, clip_tokenizer.py and file_tokenizer.py say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tokens:
    """One text as the text tower reads it."""

    ids: NDArray[np.int64]  # [n], start and end included, n <= context length
    truncated: bool  # whether the text had more tokens than the context holds


class Tokenizer(Protocol):
    """Turns texts into tokens. Safe for use from several threads."""

    def encode(self, text: str, /) -> Tokens:
        """Return the tokens; a text too long loses its end, and keeps the end-of-text token."""
        ...
