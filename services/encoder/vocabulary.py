"""What a model's tokenizer is made of, as its checkpoint says; the tokenizers carry it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ClipVocabulary:
    """openai/CLIP's own vocabulary and clean-up, with the special tokens as a text spells them."""

    start: str = "<|startoftext|>"
    end: str = "<|endoftext|>"


OPENAI_VOCABULARY = ClipVocabulary()


@dataclass(frozen=True)
class VocabularyFile:
    """A tokenizer.json of Hugging Face's tokenizers, and what else its family's processor does."""

    content: bytes
    is_lowered: bool = False  # whether texts are in lower case before all else
    # Whether tokens for start and end go around a text; None: as the file says.
    added: tuple[bool, bool] | None = None
    padding: Literal["", "left", "right"] = ""  # where a text is filled up to the context's length


Vocabulary = ClipVocabulary | VocabularyFile
