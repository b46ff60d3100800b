"""Texts that people might look for, from a seed: always new ones, or the popular ones again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from random import Random

_MIN_WORDS, _MAX_WORDS = 3, 12

_WORDS = """\
a an the two three some many old young small large tiny huge bright dark red blue green yellow white
black brown gray golden silver wooden wet dry empty crowded quiet busy happy sleepy hungry striped
dog cat horse bird cow sheep child woman man couple crowd fisherman dancer painter cyclist bicycle
car bus train boat bridge tower castle church market street alley harbour beach island lake river
waterfall mountain valley forest meadow garden orchard field desert glacier cloud rainbow sunset
sunrise storm snow rain fog moon star lantern candle window door table chair lamp clock book letter
guitar violin piano drum camera umbrella hat coat shoe basket bottle cup bowl plate bread cheese
apple orange grape pumpkin flower rose tulip tree leaf mushroom stone shell feather kite balloon
running jumping sleeping eating drinking reading waiting dancing swimming flying climbing sitting
standing laughing playing carrying holding watching crossing in on under beside behind above near
between across along with without during before after at from toward through
photograph painting sketch portrait panorama closeup poster mosaic
""".split()  # noqa: SIM905 (a list of two hundred quoted words is no better to read)


def new_texts(seed: int) -> Iterator[str]:
    """Endless texts of 3 to 12 words, none of them twice; the same ones for the same seed."""
    rng = Random(f"texts {seed}")  # noqa: S311 (no secret)
    seen: set[str] = set()
    while True:
        text = " ".join(rng.choices(_WORDS, k=rng.randint(_MIN_WORDS, _MAX_WORDS)))
        if text not in seen:
            seen.add(text)
            yield text


def repeated_texts(texts: Sequence[str], exponent: float, seed: int) -> Iterator[str]:
    """Endless picks of `texts` by Zipf's law: the n-th is asked for 1 / n ** exponent as often."""
    rng = Random(f"zipf {seed}")  # noqa: S311 (no secret)
    weights = [rank**-exponent for rank in range(1, len(texts) + 1)]
    cumulative = list(itertools.accumulate(weights))
    while True:
        yield from rng.choices(texts, cum_weights=cumulative, k=1_000)
