"""The drawn world keeps its promises: same bytes for a seed, fair splits, honest captions."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter

import pytest

from demo.captions import caption, query
from demo.world import COLLECTION, COLOURS, FILLS, PLACES, THINGS, UNSEEN, Scene, draw, scenes

_SAME: dict[str, str] = {"grey": "gray", **{f"{thing}s": thing for thing in THINGS}}


def _distance(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    return sum(abs(x - y) for x, y in zip(a, b, strict=True))


def _told(text: str, names: tuple[str, ...]) -> set[str]:
    """The names that a caption says, as whole words."""
    words = {_SAME.get(word, word) for word in re.findall(r"[a-z]+", text)}
    return {name for name in names if name in words}


def test_the_world_has_the_promised_names() -> None:
    assert len(THINGS) == 16
    assert len(COLOURS) == 11
    assert len(PLACES) == 8


def test_same_scene_draws_the_same_bytes() -> None:
    scene = Scene("dog", "white", "snow", 7)
    assert draw(scene, 64).tobytes() == draw(scene, 64).tobytes()


def test_another_seed_draws_another_picture() -> None:
    pictures = {draw(Scene("dog", "white", "snow", seed), 48).tobytes() for seed in range(20)}
    assert len(pictures) == 20


def test_small_and_large_show_the_same_picture() -> None:
    for seed, thing in enumerate(THINGS):
        scene = Scene(thing, "red", PLACES[seed % 8], seed)
        small = draw(scene, 32).tobytes()
        reduced = draw(scene, 128).reduce(4).tobytes()
        assert _distance(tuple(small), tuple(reduced)) / len(small) < 10


@pytest.mark.parametrize("thing", THINGS)
def test_every_thing_draws_in_every_place_and_colour(thing: str) -> None:
    for place in PLACES:
        for seed, colour in enumerate(COLOURS):
            picture = draw(Scene(thing, colour, place, seed), 24)
            assert (picture.size, picture.mode) == ((24, 24), "RGB")


@pytest.mark.parametrize("colour", COLOURS)
def test_a_thing_shows_its_colour(colour: str) -> None:
    raw = draw(Scene("heart", colour, "room", 2), 64).tobytes()
    pixels = [(raw[at], raw[at + 1], raw[at + 2]) for at in range(0, len(raw), 3)]
    assert sum(_distance(pixel, FILLS[colour]) < 40 for pixel in pixels) > 400


def test_drawing_leaves_the_global_random_alone() -> None:
    random.seed(5)
    before = random.getstate()
    draw(Scene("cat", "black", "night", 1), 24)
    list(scenes(COLLECTION[:3], 2, 0))
    assert random.getstate() == before


def test_unknown_names_are_refused() -> None:
    for scene in (Scene("cow", "red", "snow", 1), Scene("dog", "red", "moon", 1)):
        with pytest.raises(KeyError):
            draw(scene, 16)


def test_unseen_pairs_cover_all_colours_and_things() -> None:
    assert len(UNSEEN) == 24
    assert ("white", "dog") in UNSEEN
    colours = Counter(colour for colour, _ in UNSEEN)
    things = Counter(thing for _, thing in UNSEEN)
    assert set(colours) == set(COLOURS)
    assert set(colours.values()) == {2, 3}
    assert set(things) == set(THINGS)
    assert set(things.values()) == {1, 2}


def test_collection_has_100_classes_that_are_spread_evenly() -> None:
    assert len(set(COLLECTION)) == len(COLLECTION) == 100
    assert COLLECTION[0] == ("white", "dog")
    assert sum(pair in UNSEEN for pair in COLLECTION) == 20
    assert min(Counter(colour for colour, _ in COLLECTION).values()) >= 7
    assert min(Counter(thing for _, thing in COLLECTION).values()) >= 5


def test_scenes_are_the_same_again_and_go_round_the_places() -> None:
    first = list(scenes(COLLECTION[:4], 8, 3))
    assert first == list(scenes(COLLECTION[:4], 8, 3))
    assert first != list(scenes(COLLECTION[:4], 8, 4))
    assert [(scene.colour, scene.thing) for scene in first[::8]] == list(COLLECTION[:4])
    assert {scene.place for scene in first[:8]} == set(PLACES)
    assert len({scene.seed for scene in first}) == len(first)


@pytest.mark.parametrize("tells_colour", [True, False])
@pytest.mark.parametrize("tells_thing", [True, False])
@pytest.mark.parametrize("tells_place", [True, False])
def test_captions_tell_exactly_what_is_given(
    tells_colour: bool, tells_thing: bool, tells_place: bool
) -> None:
    rng = random.Random(1)
    where = re.compile(
        r"\b(grass|meadow|snow|snowy|winter|night|moonlight|beach|sand|sea|waves|desert|cacti|city"
        r"|street|room|indoors)\b"
    )
    for _ in range(1500):
        colour = rng.choice(COLOURS) if tells_colour else None
        thing = rng.choice(THINGS) if tells_thing else None
        place = rng.choice(PLACES) if tells_place else None
        text = caption(rng, colour, thing, place)
        assert _told(text, COLOURS) == ({colour} if colour else set()), text
        assert _told(text, THINGS) == ({thing} if thing else set()), text
        assert bool(where.search(text)) == tells_place, text
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|  |None", text), text


def test_captions_come_in_many_phrasings() -> None:
    rng = random.Random(2)
    assert len({caption(rng, "white", "dog", "snow") for _ in range(500)}) >= 15


def test_query_has_the_right_article() -> None:
    assert query("white", "dog") == "a white dog"
    assert query("orange", "cat") == "an orange cat"


def test_the_pictures_are_those_the_model_was_trained_on() -> None:
    # A new digest means new pictures: the bundled model must then be trained and measured again.
    digest = hashlib.sha256()
    for index, scene in enumerate(scenes(COLLECTION[::5], 1, 11)):
        digest.update(draw(scene, 32 + index).tobytes())
    assert digest.hexdigest() == "ceec1efe68dd0024546f2fcb24bae7db83fa8240a07af6ba93afe2e478f51aef"
