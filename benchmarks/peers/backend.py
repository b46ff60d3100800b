"""What every peer looks like to the worker that measures it; needs nothing but numpy.

A peer's own module imports its own packages, which only its own environment has.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.encoder import openai_clip

IMAGE_SIZE = 224
CONTEXT_TOKENS = 77
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)

Pixels = NDArray[np.uint8]


class Callers(NamedTuple):
    """Calls under way at once."""

    images: int
    texts: int


class Backend(ABC):
    """One peer, loaded and ready; the constructor is what the start costs."""

    images_per_call = 32
    texts_per_call = 32
    """What one call is given when rates are measured."""
    callers = Callers(images=1, texts=1)
    """Calls under way at once when rates are measured."""
    server_pid = 0
    """The process that has the model, where that is another one."""
    start_s = 0.0
    """How long that process took to be ready."""

    @abstractmethod
    def encode_images(self, pixels: Pixels) -> Any:
        """An answer with the vectors of uint8 RGB pixels [N, S, S, 3]."""

    @abstractmethod
    def encode_texts(self, texts: Sequence[str]) -> Any:
        """An answer with the vectors of texts."""

    def vectors(self, answer: Any) -> NDArray[np.float32]:
        """Those of an answer, [N, D]."""
        return np.asarray(answer, np.float32)

    def close(self) -> None:  # noqa: B027 (most have nothing to end)
        """Ends what it started."""


def tokenize(texts: Sequence[str]) -> NDArray[np.int64]:
    """As clip.tokenize: int64 [N, 77], zeros after the end."""
    tokenizer = openai_clip.tokenizer()
    tokens = np.zeros((len(texts), CONTEXT_TOKENS), dtype=np.int64)
    for row, text in zip(tokens, texts, strict=True):
        ids = tokenizer.encode(text)[: CONTEXT_TOKENS - 2]
        ids = [tokenizer.encoder["<|startoftext|>"], *ids, tokenizer.encoder["<|endoftext|>"]]
        row[: len(ids)] = ids
    return tokens
