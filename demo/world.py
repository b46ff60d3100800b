"""The drawn world: what there is in it, which pairs training never sees, and how a scene is drawn.

The same scene draws the same picture for ever: the bundled model is trained on these pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from random import Random

from PIL import Image

from demo.figure import Figure
from demo.places import PLACES, ground
from demo.shapes import Colour
from demo.things import FIGURES

__all__ = [
    "COLLECTION",
    "COLOURS",
    "FILLS",
    "PLACES",
    "THINGS",
    "UNSEEN",
    "Scene",
    "draw",
    "scenes",
]

FILLS: dict[str, Colour] = {
    "red": (216, 36, 40),
    "orange": (246, 132, 24),
    "yellow": (252, 216, 46),
    "green": (52, 158, 66),
    "blue": (40, 98, 220),
    "purple": (128, 56, 172),
    "pink": (252, 146, 192),
    "brown": (122, 72, 38),
    "black": (36, 36, 40),
    "white": (255, 255, 255),
    "gray": (140, 142, 146),
}

THINGS: tuple[str, ...] = tuple(FIGURES)
COLOURS: tuple[str, ...] = tuple(FILLS)


def _pairs_unseen() -> list[tuple[str, str]]:
    """24 pairs, white dog first: steps of 4 colours spread them over all things and colours."""
    white, dog = COLOURS.index("white"), THINGS.index("dog")
    return [
        (COLOURS[(white + 4 * step) % len(COLOURS)], THINGS[(dog + step) % len(THINGS)])
        for step in range(24)
    ]


def _pairs_collected() -> list[tuple[str, str]]:
    """20 unseen pairs, then 80 seen ones, taken along the diagonal of the colour-thing table."""
    unseen = _pairs_unseen()
    # 11 colours and 16 things share no factor, so the diagonal visits every pair once.
    diagonal = (
        (COLOURS[step % len(COLOURS)], THINGS[step % len(THINGS)])
        for step in range(len(COLOURS) * len(THINGS))
    )
    seen = [pair for pair in diagonal if pair not in unseen]
    return unseen[:20] + seen[:80]


UNSEEN: frozenset[tuple[str, str]] = frozenset(_pairs_unseen())
COLLECTION: tuple[tuple[str, str], ...] = tuple(_pairs_collected())


@dataclass(frozen=True)
class Scene:
    """One picture of the world; `seed` decides all that the other three leave open."""

    thing: str
    colour: str
    place: str
    seed: int


def scenes(pairs: Iterable[tuple[str, str]], per_pair: int, seed: int) -> Iterator[Scene]:
    """`per_pair` scenes for each (colour, thing), pair by pair, going round all places."""
    rng = Random(f"scenes {seed}")
    for colour, thing in pairs:
        first = rng.randrange(len(PLACES))
        for number in range(per_pair):
            place = PLACES[(first + number) % len(PLACES)]
            yield Scene(thing, colour, place, rng.getrandbits(40))


def draw(scene: Scene, size: int = 256) -> Image.Image:
    """The RGB picture of a scene, `size` pixels a side; every size shows the same picture.

    Raises KeyError for a thing, colour or place that is not in the world.
    """
    rng = Random(f"{scene.thing} {scene.colour} {scene.place} {scene.seed}")
    figure = Figure()
    FIGURES[scene.thing](figure, rng)
    canvas = ground(scene.place, 2 * size, rng)  # twice as large, halved below: clean edges
    figure.paint(canvas, FILLS[scene.colour], rng)
    return canvas.image.reduce(2)
