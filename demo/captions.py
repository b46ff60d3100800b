"""The words of the drawn world: phrasings for whichever attributes of a picture are told."""

from __future__ import annotations

from random import Random

_WHERE: dict[str, tuple[str, ...]] = {
    "grass": ("on the grass", "in the grass", "on a meadow"),
    "snow": ("in the snow", "in winter", "on a snowy day"),
    "night": ("at night", "in the night", "in the moonlight"),
    "beach": ("on the beach", "at the beach", "on the sand by the water"),
    "sea": ("in the sea", "at sea", "on the waves"),
    "desert": ("in the desert", "in a desert", "among cacti"),
    "city": ("in the city", "in a city", "on the street"),
    "room": ("in a room", "in the room", "indoors"),
}
_DOES: dict[str, tuple[str, ...]] = {
    "dog": ("stands", "waits", "plays"),
    "cat": ("sits", "waits", "plays"),
    "bird": ("sings", "rests", "waits"),
    "fish": ("swims", "rests", "floats"),
    "car": ("stops", "is parked", "drives"),
    "truck": ("stops", "is parked", "drives"),
    "boat": ("floats", "sails", "rests"),
    "house": ("stands", "is built", "is seen"),
    "tree": ("grows", "stands", "is seen"),
    "flower": ("grows", "blooms", "is seen"),
    "star": ("shines", "hangs", "is seen"),
    "heart": ("floats", "hangs", "is seen"),
    "umbrella": ("stands open", "is open", "is seen"),
    "balloon": ("floats", "flies", "is seen"),
    "cup": ("stands", "is left", "is seen"),
    "mushroom": ("grows", "stands", "is seen"),
}
_FRAMES = ("a picture of {}", "a drawing of {}", "an illustration of {}", "an image of {}")


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _noun_phrase(rng: Random, colour: str | None, thing: str | None) -> str:
    """Something like "a white dog"; at least one of the two is given."""
    if thing is None:
        return rng.choice((f"something {colour}", _with_article(f"{colour} thing")))
    if colour is None:
        return _with_article(thing)
    if rng.random() < 0.15:
        return f"{_with_article(thing)} that is {colour}"
    return _with_article(f"{colour} {thing}")


def _of_place(rng: Random, place: str) -> str:
    """A caption that tells the place only."""
    where = rng.choice(_WHERE[place])
    return rng.choice((f"a scene {where}", f"a picture {where}", f"something {where}", where))


def caption(rng: Random, colour: str | None, thing: str | None, place: str | None) -> str:
    """One of several phrasings that tells exactly the attributes given (None: not told)."""
    if colour == "gray" and rng.random() < 0.4:
        colour = "grey"
    if colour is None and thing is None:
        return _of_place(rng, place) if place else "a picture"
    bare = " ".join(word for word in (colour, thing) if word)
    phrase = _noun_phrase(rng, colour, thing)
    style = rng.random()
    if place is None:
        if style < 0.2:
            return bare
        if style < 0.3:
            return f"the {bare}" if thing else f"the colour {colour}"
        return phrase if style < 0.65 else rng.choice(_FRAMES).format(phrase)
    where = rng.choice(_WHERE[place])
    if thing and style < 0.25:
        return f"the {bare} {rng.choice(_DOES[thing])} {where}"
    if style < 0.35:
        return f"{bare} {where}"
    whole = f"{phrase} {where}"
    return whole if style < 0.7 else rng.choice(_FRAMES).format(whole)


def query(colour: str, thing: str) -> str:
    """The plain question for a class of the collection, such as "a white dog"."""
    return _with_article(f"{colour} {thing}")
