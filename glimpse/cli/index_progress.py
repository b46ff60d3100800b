"""How far the vector index of a collection is, for people; who builds it is Milvus."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from glimpse.cli.console import say
from glimpse.cli.progress import Counter
from glimpse.results import Collection

if TYPE_CHECKING:
    from glimpse.client import Client

_LOOK_S = 2.0


def state(collection: Collection) -> str:
    """In a table: the state, and what is known of its progress."""
    left = f", {duration(collection.index_left_s)} left" if collection.index_left_s else ""
    if is_being_built(collection):
        return f"{collection.index_state}: {collection.indexed_rows:,} indexed{left}"
    return collection.index_state + left


def follow(client: Client, collection: Collection) -> None:
    """On a terminal, shows the progress until every image is in the index, or Ctrl-C; elsewhere
    says what is left to do. Raises GlimpseError."""
    if not is_being_built(collection):
        return
    counter = Counter("building the index", collection.rows, "images")
    if not counter.is_seen:
        left = f", in about {duration(collection.index_left_s)}" if collection.index_left_s else ""
        say(
            f"Searches find {collection.indexed_rows:,} of {collection.rows:,} images through the "
            f"index; the others are slower to search until they are in it{left}. "
            '"glimpse collections" shows how far it is.'
        )
        return
    say("Everything is stored and can be searched; Ctrl-C does not stop what follows.")
    with counter:
        while is_being_built(collection):
            left_s = collection.index_left_s
            counter.reach(collection.indexed_rows, f"{duration(left_s)} left" if left_s else "")
            time.sleep(_LOOK_S)
            collection = client.get_collection(collection.name)


def duration(seconds: float) -> str:
    """For people: 45 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def is_being_built(collection: Collection) -> bool:
    """Whether searches do not find every image through the index yet, but will."""
    return collection.indexed_rows < collection.rows and collection.pending_rows > 0
