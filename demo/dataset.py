"""Training pictures and captions of the drawn world, and batches of both; knows no network."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from demo import captions, world
from services.encoder import openai_clip

SILENT = 0  # compact id of a word without a meaning: its embedding stays zero
_ATTRIBUTES = (world.COLOURS, world.THINGS, world.PLACES)
# How often a caption tells which of (colour, thing, place). Single attributes and their pairs
# keep the meanings apart, so that a colour is understood beside a thing it was never seen with.
_TOLD: dict[tuple[bool, bool, bool], float] = {
    (True, True, False): 0.42,
    (True, True, True): 0.16,
    (False, True, False): 0.12,
    (True, False, False): 0.12,
    (False, True, True): 0.08,
    (False, False, True): 0.05,
    (True, False, True): 0.05,
}
_DRAWING = frozenset({"world", "things", "animals_and_plants", "figure", "shapes", "places"})
_SILENT_CAPTIONS = 0.3  # the share of captions that get meaningless words put in
_MAX_SHIFT_PIXELS = 3
UNKNOWN = -1  # the colour of a picture that lost it; an attribute that a caption does not tell
_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601


def seen_pairs() -> list[tuple[str, str]]:
    """Every (colour, thing) that training may show or name."""
    return [(c, t) for c in world.COLOURS for t in world.THINGS if (c, t) not in world.UNSEEN]


def resized(picture: Image.Image, size: int) -> NDArray[np.uint8]:
    """uint8 [size, size, 3] of a square picture, as CLIP's preprocessing makes it."""
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC))


@dataclass(frozen=True)
class Pictures:
    """Pixels uint8 [n, size, size, 3] and attributes int64 [n, 3]: indices of colour, thing, place.

    The pixels may lie in a memory-mapped file.
    """

    pixels: NDArray[np.uint8]
    attributes: NDArray[np.int64]


def attributes_of(scenes: Iterable[world.Scene]) -> NDArray[np.int64]:
    """Indices into COLOURS, THINGS and PLACES, int64 [n, 3]."""
    colours, things, places = _ATTRIBUTES
    rows = [(colours.index(s.colour), things.index(s.thing), places.index(s.place)) for s in scenes]
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def draw_pictures(
    pairs: Sequence[tuple[str, str]], per_pair: int, seed: int, size: int, folder: Path
) -> Pictures:
    """Draw `per_pair` pictures of each pair with one process per core, or take them from `folder`.

    The file's name holds a digest of the drawing code: pictures of an older world are not reused.
    """
    scenes = list(world.scenes(pairs, per_pair, seed))
    path = folder / f"pictures-{_digest(pairs, per_pair, seed, size)}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        shape = (len(scenes), size, size, 3)
        pixels = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
        with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
            drawn = pool.imap(_draw, ((scene, size) for scene in scenes), chunksize=64)
            for index, picture in enumerate(drawn):
                pixels[index] = picture
                if index % 2000 == 0:
                    print(f"drawing  {index:6d} of {len(scenes)} pictures", file=sys.stderr)
        pixels.flush()
        partial.rename(path)
    return Pictures(np.load(path, mmap_mode="r"), attributes_of(scenes))


def _draw(task: tuple[world.Scene, int]) -> NDArray[np.uint8]:
    scene, size = task
    return resized(world.draw(scene), size)


def _digest(*parts: object) -> str:
    digest = hashlib.sha256(repr(parts).encode())
    for source in sorted(Path(world.__file__).parent.glob("*.py")):
        if source.stem in _DRAWING:
            digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


class Vocabulary:
    """CLIP tokens that captions use, renumbered 1..n in CLIP's order; 0 is SILENT."""

    def __init__(self, tokens: Iterable[int]) -> None:
        encoder = openai_clip.tokenizer().encoder
        self.start, self.end = encoder["<|startoftext|>"], encoder["<|endoftext|>"]
        self.tokens = sorted({*tokens, self.start, self.end})
        self._compact = {token: index + 1 for index, token in enumerate(self.tokens)}

    def __len__(self) -> int:
        return len(self.tokens) + 1

    def compact(self, words: Iterable[int]) -> list[int]:
        """Compact ids of `words` between the start and end marks; words not known are SILENT."""
        inner = [self._compact.get(word, SILENT) for word in words]
        return [self._compact[self.start], *inner, self._compact[self.end]]


class CaptionPool:
    """Ready-made captions for every meaning that training may name, in compact ids.

    A meaning is (colour, thing, place) as indices, -1 where it is not told.
    """

    def __init__(self, seed: int, phrasings: int = 40) -> None:
        """`phrasings` of each meaning, drawn at random; five times as many of a lone attribute."""
        rng, encode = Random(f"captions {seed}"), cache(openai_clip.tokenizer().encode)
        self.texts = {
            meaning: [captions.caption(rng, *_names(meaning)) for _ in range(count)]
            for meaning, count in _meanings(phrasings).items()
        }
        words = {meaning: [encode(text) for text in group] for meaning, group in self.texts.items()}
        self.vocabulary = Vocabulary(w for group in words.values() for text in group for w in text)
        self._captions = {
            meaning: [self.vocabulary.compact(text) for text in group]
            for meaning, group in words.items()
        }

    def sample(self, rng: np.random.Generator, meaning: Sequence[int]) -> list[int]:
        """One caption of this meaning, at times with SILENT words among its own."""
        group = self._captions[int(meaning[0]), int(meaning[1]), int(meaning[2])]
        caption = list(group[rng.integers(len(group))])
        if rng.random() < _SILENT_CAPTIONS:
            for _ in range(rng.integers(1, 5)):
                caption.insert(int(rng.integers(1, len(caption))), SILENT)
        return caption


def _meanings(phrasings: int) -> dict[tuple[int, int, int], int]:
    """Every meaning with the number of its phrasings; none holds an unseen pair."""
    colours, things, places = (range(-1, len(names)) for names in _ATTRIBUTES)
    unseen = {(world.COLOURS.index(c), world.THINGS.index(t)) for c, t in world.UNSEEN}
    meanings = ((c, t, p) for c in colours for t in things for p in places)
    # Few meanings tell one attribute, and each has as many phrasings as any other has in all.
    return {
        meaning: phrasings * (5 if meaning.count(-1) == 2 else 1)
        for meaning in meanings
        if meaning[:2] not in unseen and meaning != (-1, -1, -1)
    }


def _names(meaning: tuple[int, int, int]) -> list[str | None]:
    return [
        None if index < 0 else names[index]
        for index, names in zip(meaning, _ATTRIBUTES, strict=True)
    ]


@dataclass(frozen=True)
class Batch:
    """Pixels uint8 [n, size, size, 3], tokens int64 [k, length], positives and comparable
    bool [k, n], kinds int64 [k]: which attributes a caption tells, as a number."""

    pixels: NDArray[np.uint8]
    tokens: NDArray[np.int64]
    positives: NDArray[np.bool_]
    comparable: NDArray[np.bool_]
    kinds: NDArray[np.int64]


def positives(meanings: NDArray[np.int64], attributes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool [k, n]: does caption k, of meanings [k, 3], fit picture n, of attributes [n, 3]?"""
    told = meanings[:, None, :]
    return ((told < 0) | (told == attributes[None])).all(-1)


def comparable(meanings: NDArray[np.int64], attributes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool [k, n]: may the loss tell caption k and picture n apart, or count them as one?

    Not where the caption names a colour and the picture lost its own. And not where the caption's
    word and the picture would make an unseen pair: that no white picture shows a dog follows from
    what training withholds, and the network would learn that white things are no dogs.
    """
    colours, things = meanings[:, None, 0], meanings[:, None, 1]
    shown_colours, shown_things = attributes[None, :, 0], attributes[None, :, 1]
    paired_colours = np.where(colours < 0, shown_colours, colours)
    paired_things = np.where(things < 0, shown_things, things)
    faded = (colours >= 0) & (shown_colours < 0)
    return ~faded & ~_withheld()[paired_colours, paired_things]


@cache
def _withheld() -> NDArray[np.bool_]:
    """bool [colours + 1, things]: is the pair unseen? UNKNOWN, the last row, is with nothing."""
    colours: tuple[str | None, ...] = (*world.COLOURS, None)
    return np.array([[(c, t) in world.UNSEEN for t in world.THINGS] for c in colours])


@dataclass(frozen=True)
class Fading:
    """How pictures lose their colour, so that a thing is known by its shape.

    share: of the pictures. light: the bounds of a factor for each channel, drawn for each picture
    along with the part of its colour that it keeps; None: no colour is kept, in white light.
    """

    share: float
    light: tuple[float, float] | None = None


def batch(
    pictures: Pictures,
    pool: CaptionPool,
    rng: np.random.Generator,
    images: int,
    texts: int,
    fading: Fading,
) -> Batch:
    """Random pictures, faded, shifted and mirrored, and captions that each fit one or more."""
    chosen = rng.integers(len(pictures.pixels), size=images)
    pixels, attributes = pictures.pixels[chosen], pictures.attributes[chosen]
    faded = rng.random(images) < fading.share
    faded[0] = False  # captions are made of pictures that kept their colour
    told = np.array(list(_TOLD))
    kinds = rng.choice(len(told), size=texts, p=list(_TOLD.values()))
    described = rng.choice(np.flatnonzero(~faded), size=texts)
    meanings = np.where(told[kinds], attributes[described], UNKNOWN)
    _fade(pixels, attributes, faded, fading, rng)
    lines = [pool.sample(rng, meaning) for meaning in meanings]
    tokens = np.zeros((texts, max(map(len, lines))), dtype=np.int64)
    for row, line in zip(tokens, lines, strict=True):
        row[: len(line)] = line
    return Batch(
        _augmented(pixels, rng),
        tokens,
        positives(meanings, attributes),
        comparable(meanings, attributes),
        kinds,
    )


def _fade(
    pixels: NDArray[np.uint8],
    attributes: NDArray[np.int64],
    faded: NDArray[np.bool_],
    fading: Fading,
    rng: np.random.Generator,
) -> None:
    """Fade the chosen pictures in place; their colour is UNKNOWN then.

    In coloured light, a picture whose thing would come out in a colour that is withheld from it
    stays as it is: a yellow dog in bright light is a white dog.
    """
    kept, light = np.zeros((faded.sum(), 1)), np.ones((faded.sum(), 3))
    if fading.light is not None:
        kept, light = rng.random(kept.shape), rng.uniform(*fading.light, size=light.shape)
        fills = np.array(list(world.FILLS.values()))
        shown = _in_light(fills[attributes[faded, 0]], kept, light)
        nearest = ((shown[:, None] - fills) ** 2).sum(-1).argmin(1)
        allowed = ~_withheld()[nearest, attributes[faded, 1]]
        kept, light = kept[allowed], light[allowed]
        faded[faded] = allowed
    lit = _in_light(pixels[faded], kept[:, None, None], light[:, None, None])
    pixels[faded] = lit.round().astype(np.uint8)
    attributes[faded, 0] = UNKNOWN


def _in_light(
    colours: NDArray[Any], kept: NDArray[np.float64], light: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Colours [..., 3] that keep a part of what sets them off from gray, in a light."""
    gray = (colours @ np.array(_LUMINANCE))[..., None]
    return ((gray + kept * (colours - gray)) * light).clip(0, 255)


def _augmented(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Mirror half of the pictures and shift each by a few pixels; the edge fills the gap."""
    size, shift = pixels.shape[1], _MAX_SHIFT_PIXELS
    padded = np.pad(pixels, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="edge")
    result = np.empty_like(pixels)
    for index, picture in enumerate(padded):
        top, left = rng.integers(2 * shift + 1, size=2)
        moved = picture[top : top + size, left : left + size]
        result[index] = moved[:, ::-1] if rng.random() < 0.5 else moved
    return result
