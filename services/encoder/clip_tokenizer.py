"""Texts become the tokens of openai/CLIP's SimpleTokenizer, which is OpenCLIP's as well.

It gives the same tokens with the package's own vocabulary and merge ranks, but in bounded time and
memory: SimpleTokenizer takes quadratic time on one long word, goes on long after the context is
full, and remembers every word it ever saw.
"""

from __future__ import annotations

import heapq
import html
from functools import lru_cache

import ftfy
import numpy as np
import regex

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
        self._ranks: dict[tuple[str, str], int] = clip.bpe_ranks
        self._ids: dict[str, int] = clip.encoder
        self._start, self._end = self._ids[_START], self._ids[_END]
        self._special = {word: (self._ids[name],) for word, name in special.items()}
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
        """Byte-pair encoding of one word: merge the pair of the lowest rank until none is known.

        All places of one pair are merged, from left to right, before the next pair is chosen, as
        SimpleTokenizer does; a heap of (rank, place) makes it O(n log n) in the word's length.
        """
        if word in self._special:
            return self._special[word]
        parts: list[str] = [self._byte_letters[byte] for byte in word.encode("utf-8")]
        parts[-1] += "</w>"
        after = list(range(1, len(parts) + 1))  # the next part that still stands; n is the end
        before = list(range(-1, len(parts) - 1))
        heap: list[tuple[int, int, str, str]] = []

        def offer(place: int) -> None:
            if place >= 0 and after[place] < len(parts):
                left, right = parts[place], parts[after[place]]
                rank = self._ranks.get((left, right))
                if rank is not None:
                    heapq.heappush(heap, (rank, place, left, right))

        for place in range(len(parts) - 1):
            offer(place)
        while heap:
            rank, merged = heap[0][0], []
            while heap and heap[0][0] == rank:
                _, place, left, right = heapq.heappop(heap)
                neighbour = after[place]
                if parts[place] != left or neighbour == len(parts) or parts[neighbour] != right:
                    continue  # an earlier merge took one of the two
                parts[place], parts[neighbour] = left + right, ""
                after[place] = after[neighbour]
                if after[place] < len(parts):
                    before[after[place]] = place
                merged.append(place)
            for place in merged:
                offer(place)
                offer(before[place])
        return tuple(self._ids[part] for part in parts if part)


def _mended(text: str) -> str:
    """The text without errors of its encoding and without HTML's entities."""
    if text.isascii() and text.isprintable() and "&" not in text:
        return text  # ftfy would find nothing, and take three quarters of the time for a text
    if "<" not in text:
        text = _ESCAPED_AMPERSAND.sub("&", text)
    return html.unescape(html.unescape(ftfy.fix_text(text)))
