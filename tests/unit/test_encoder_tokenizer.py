"""Our tokens against SimpleTokenizer's, in bounded time."""

from __future__ import annotations

import random
import time

import ftfy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.encoder import openai_clip
from services.encoder.clip_tokenizer import ClipTokenizer

TOKENIZER = ClipTokenizer(context_length=77)

CORPUS = [
    "a white dog",
    "A  White\tDog\n",
    "it's the dog's, they'll've gone; we're here -- aren't we?!",
    "fish &amp; chips, &lt;b&gt;bold&lt;/b&gt; &amp;amp; &eacute;clair",
    "café crème brûlée à la façon de Zoë; naïve coöperation",
    "白い犬が雪の中にいる。狗 개 собака כלב كلب सुन्दर",
    "🐶🐕‍🦺 👩‍👩‍👧‍👦 🇩🇪 ❤️",
    "1234567890 3.14 50% $100 #tag @name http://example.org/?a=b&c=d",
    "“curly” ‘quotes’ — dashes… ﬁ ligature Ⅷ ½",
    "â€œmojibakeâ€\x9d and schÃ¶n",
    "<|startoftext|> nested <|endoftext|> twice <|endoftext|>",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "aaaaaaaaaaaaaaaaaaaaaaaaa bababababababa !!!!!!!!!!!! ........",
    "\u00a0non\u2003breaking\u3000spaces\u200b",
]


@pytest.fixture(scope="module")
def tokenizer() -> ClipTokenizer:
    return ClipTokenizer(context_length=77)


def expected(text: str) -> tuple[list[int], bool]:
    ids = openai_clip.tokenizer().encode(text)
    return [*[49406, *ids][:76], 49407], len(ids) > 75


@pytest.mark.parametrize("text", CORPUS)
def test_tokens_equal_those_of_simple_tokenizer(tokenizer, text) -> None:
    tokens = tokenizer.encode(text)
    assert (tokens.ids.tolist(), tokens.truncated) == expected(text)


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=60) | st.text("ab c'1.", max_size=60))
def test_tokens_equal_those_of_simple_tokenizer_for_any_text(text) -> None:
    tokens = TOKENIZER.encode(text)
    assert (tokens.ids.tolist(), tokens.truncated) == expected(text)


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.characters(min_codepoint=1, max_codepoint=126), max_size=60))
def test_tokens_of_ascii_equal_those_of_simple_tokenizer(text) -> None:
    tokens = TOKENIZER.encode(text)
    assert (tokens.ids.tolist(), tokens.truncated) == expected(text)


_ESCAPES = st.sampled_from(
    ["&", "amp;", "AMP;", "#38;", "#038;", "#x26;", "#X26;", "lt;", "gt", "<", "é", "Ã©", "a", "\n"]
)


@settings(max_examples=300, deadline=None)
@given(text=st.lists(_ESCAPES, max_size=20).map("".join))
def test_tokens_equal_those_of_simple_tokenizer_however_often_a_text_is_escaped(text) -> None:
    assert TOKENIZER.encode(text).ids.tolist() == expected(text)[0]


def test_an_ampersand_escaped_a_thousand_times_is_undone_in_one_pass(
    tokenizer, monkeypatch
) -> None:
    passes = []
    undo = ftfy.fixes.unescape_html
    monkeypatch.setitem(ftfy.FIXERS, "unescape_html", lambda text: passes.append(1) or undo(text))
    text = "salt &" + 1000 * "amp;" + " pepper"
    assert tokenizer.encode(text).ids.tolist() == expected("salt & pepper")[0]
    assert 1 <= len(passes) <= 5


@pytest.mark.parametrize("words", [74, 75, 76, 500])
def test_a_text_past_the_context_is_cut_and_reported_and_keeps_its_end(tokenizer, words) -> None:
    tokens = tokenizer.encode("dog " * words)
    assert len(tokens.ids) == min(words + 2, 77)
    assert tokens.ids[-1] == 49407
    assert tokens.truncated == (words > 75)


def test_one_endless_word_takes_no_quadratic_time(tokenizer) -> None:
    dice = random.Random(1)
    word = "".join(dice.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(8192))
    began_s = time.thread_time()
    tokens = tokenizer.encode(word)
    assert time.thread_time() - began_s < 1.0  # SimpleTokenizer: several seconds
    assert tokens.truncated
    short = word[:300]
    assert tokenizer.encode(short).ids.tolist() == expected(short)[0]
