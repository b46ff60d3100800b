"""Texts become the tokens that a model's own tokenizer.json says, by Hugging Face's tokenizers."""

from __future__ import annotations

import numpy as np
from tokenizers import Tokenizer as TokenizerOfFile
from tokenizers import normalizers, processors

from services.encoder.tokenizer import Tokens
from services.encoder.vocabulary import VocabularyFile

# As Gemma's vocabulary names them, which SigLIP 2 has.
_START, _END, _PADDING = "<bos>", "<eos>", "<pad>"


class FileTokenizer:
    """Turns texts into tokens. Safe for use from several threads."""

    def __init__(
        self, vocabulary: VocabularyFile, context_length: int, vocabulary_size: int
    ) -> None:
        """Raises ValueError for a file that is no tokenizer, or another model's."""
        try:
            self._tokenizer = TokenizerOfFile.from_buffer(vocabulary.content)
        except Exception as error:  # whatever is wrong with the file, it is a bare Exception
            raise ValueError(f"tokenizer.json cannot be read: {error}") from error
        highest = max(self._tokenizer.get_vocab().values(), default=0)
        if highest >= vocabulary_size:
            raise ValueError(
                f"tokenizer.json has a token {highest}, and the model knows {vocabulary_size}"
            )
        if vocabulary.is_lowered:
            self._lower_first()
        if vocabulary.added is not None:
            self._add(*vocabulary.added)
        self._tokenizer.enable_truncation(context_length)
        self._tokenizer.no_padding()
        if vocabulary.padding:
            self._tokenizer.enable_padding(
                direction=vocabulary.padding,
                length=context_length,
                pad_id=self._id_of(_PADDING),
                pad_token=_PADDING,
            )

    def encode(self, text: str, /) -> Tokens:
        """Return the tokens; a text too long loses its end, and keeps the end-of-text token."""
        # A batch of one, for which other threads have Python's lock meanwhile; by itself, no text
        # gives it away.
        (encoding,) = self._tokenizer.encode_batch_fast([text])
        return Tokens(np.array(encoding.ids, dtype=np.int64), bool(encoding.overflowing))

    def _lower_first(self) -> None:
        steps = [normalizers.Lowercase(), self._tokenizer.normalizer]
        self._tokenizer.normalizer = normalizers.Sequence([step for step in steps if step])

    def _add(self, start: bool, end: bool) -> None:
        parts = [_START] * start + ["$A"] + [_END] * end
        special = [(name, self._id_of(name)) for name in (_START, _END) if name in parts]
        self._tokenizer.post_processor = processors.TemplateProcessing(
            single=" ".join(parts), special_tokens=special
        )

    def _id_of(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise ValueError(f"tokenizer.json has no token {token}")
        return found
