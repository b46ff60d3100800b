"""How the generations of a collection are named, so that no name can mean two things.

Calls that mean one of them say `cats@1`, which is no name that a collection can have. In the store,
generation 0 is the collection `cats` itself, as every collection is made; the others are
collections of their own, `cats__g1` and so on. Which one serves, an alias says, `cats__serving`;
where there is none it is generation 0. New collections get no such names; one of before that has
is what it was, because every generation but the first carries marks that say whose it is.
"""

from __future__ import annotations

import re

from glimpse.errors import InvalidInput

_MAX_DIGITS = 9
_NUMBER = rf"(0|[1-9][0-9]{{0,{_MAX_DIGITS - 1}}})"
_ADDRESS = re.compile(rf"(.*)@{_NUMBER}", re.DOTALL)
_STORED = re.compile(rf"(.+)__g{_NUMBER}")
_SERVING = "__serving"
_MAX_CHARACTERS = 255 - len("__g") - _MAX_DIGITS


def address_of(collection: str, number: int) -> str:
    """What calls name a generation by that mean this one, whichever serves."""
    return f"{collection}@{number}"


def parts_of(address: str) -> tuple[str, int | None]:
    """The collection, and the number of a generation; None where only the collection is named."""
    match = _ADDRESS.fullmatch(address)
    return (match[1], int(match[2])) if match else (address, None)


def stored_name(collection: str, number: int) -> str:
    """The store's name of a generation."""
    return f"{collection}__g{number}" if number else collection


def parts_of_stored(name: str) -> tuple[str, int] | None:
    """The collection and the number in a name formed as those of generations behind the first."""
    match = _STORED.fullmatch(name)
    return (match[1], int(match[2])) if match else None


def serving_alias(collection: str) -> str:
    return f"{collection}{_SERVING}"


def can_grow(collection: str) -> bool:
    """Whether names of further generations can be made of this one."""
    return len(collection) <= _MAX_CHARACTERS


def check_can_grow(collection: str) -> None:
    """Raises InvalidInput for a collection that can have no further generations."""
    if not can_grow(collection):
        raise InvalidInput(
            "collection",
            f"must have at most {_MAX_CHARACTERS} characters to have generations; it has "
            f"{len(collection)}",
        )


def check_unreserved(name: str) -> None:
    """Raises InvalidInput for a name that no new collection gets."""
    if parts_of_stored(name) is not None or name.endswith(_SERVING):
        raise InvalidInput(
            "collection", f"must not end in __g and a number, or in {_SERVING}; it is {name!r}"
        )
