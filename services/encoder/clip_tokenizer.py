"""Texts become the tokens of openai/CLIP's SimpleTokenizer, which is OpenCLIP's as well.

It gives the same tokens with the package's own vocabulary and merges, which Hugging Face's
tokenizers carry out, and in bounded time and memory: SimpleTokenizer takes quadratic time on one
long word, goes on long after the context is full, and remembers every word it ever saw.
"""

from __future__ import annotations

import html
from functools import lru_cache

import ftfy
import numpy as np
import regex
from tokenizers import Tokenizer as PairMerger
from tokenizers.models import BPE

from services.encoder import openai_clip
from services.encoder.tokenizer import Tokens
from services.encoder.vocabulary import OPENAI_VOCABULARY, ClipVocabulary

_START, _END = "<|startoftext|>", "<|endoftext|>"
_SPECIAL = r"<\|startoftext\|>|<\|endoftext\|>|"  # what its pattern for words begins with
_MAX_CACHED_WORDS = 65_536
_MAX_CACHED_CHARACTERS = 64  # of one word; longer ones are no words that come again
_WHITE_SPACE = regex.compile(r"\s+")
# An ampersand escaped over and over. ftfy undoes one level at a time, each on the whole text, and
# none where the text has a "<".
_ESCAPED_AMPERSAND = regex.compile(r"&(?:(?:amp|AMP|#0{0,8}38|#[xX]0{0,8}26);)+")


class ClipTokenizer:
    """Turns texts into tokens. Safe for use from several threads."""

    def __init__(self, context_length: int, vocabulary: ClipVocabulary = OPENAI_VOCABULARY) -> None:
        clip = openai_clip.tokenizer()
        self._context_length = context_length
        special = {vocabulary.start: _START, vocabulary.end: _END}
        words = clip.pat.pattern.removeprefix(_SPECIAL)
        spelled = "".join(f"{regex.escape(word)}|" for word in special)
        self._pattern = regex.compile(spelled + words, regex.IGNORECASE)
        self._byte_letters: dict[int, str] = clip.byte_encoder
        ids: dict[str, int] = clip.encoder
        # Our own cache says how long a word it keeps.
        merges = list(clip.bpe_ranks)  # a dict in the order of ranks
        self._pairs = PairMerger(BPE(ids, merges, cache_capacity=0, end_of_word_suffix="</w>"))
        self._pairs.enable_truncation(context_length)
        self._start, self._end = ids[_START], ids[_END]
        self._special = {word: (ids[name],) for word, name in special.items()}
        self._cached_merge = lru_cache(_MAX_CACHED_WORDS)(self._merge)

    def encode(self, text: str, /) -> Tokens:
        """Return the tokens; a text too long loses its end, and keeps the end-of-text token.

        Source of the clean-up (mend encoding errors, undo HTML entities twice, join white space,
        lower case): SimpleTokenizer.encode.
        """
        room = self._context_length - 2
        clean = _WHITE_SPACE.sub(" ", _mended(text).strip()).strip().lower()
        ids = [self._start]
        for word in self._pattern.finditer(clean):
            ids.extend(self._word_ids(word.group()))
            if len(ids) - 1 > room:
                break
        truncated = len(ids) - 1 > room
        return Tokens(np.array([*ids[: room + 1], self._end], dtype=np.int64), truncated)

    def _word_ids(self, word: str) -> tuple[int, ...]:
        if len(word) > _MAX_CACHED_CHARACTERS:
            return self._merge(word)
        return self._cached_merge(word)

    def _merge(self, word: str) -> tuple[int, ...]:
        """The word's first tokens, a context full, in time n log n: 8,192 letters take 2 ms."""
        if word in self._special:
            return self._special[word]
        letters = word.encode("utf-8").decode("latin-1").translate(self._byte_letters)
        # A batch of one, for which other threads have Python's lock meanwhile; by itself, no text
        # gives it away.
        (merged,) = self._pairs.encode_batch_fast([letters], add_special_tokens=False)
        return tuple(merged.ids)


def _mended(text: str) -> str:
    """The text without errors of its encoding and without HTML's entities."""
    if text.isascii() and text.isprintable() and "&" not in text:
        return text  # ftfy would find nothing, and take three quarters of the time for a text
    if "<" not in text:
        text = _ESCAPED_AMPERSAND.sub("&", text)
    return html.unescape(html.unescape(ftfy.fix_text(text)))
