"""What the bundled model knows, as commands tell it, and how to get another."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from glimpse.cli.addresses import default_data
from glimpse.cli.console import say

NAME = "demo"
"""As encoder and collections name it."""

_KNOWS = "knows nothing but the demo's drawn pictures"
_OTHER = "glimpse up --model ViT-B/32"
_MARK = ".bundled-model-told"  # a file, whose time is that of the latest telling
_AGAIN_S = 86_400.0


def tell_at_start() -> None:
    """To who starts it."""
    say(
        f"That is the bundled model, which {_KNOWS}. For photographs: {_OTHER}, which downloads "
        "354 MB once."
    )


def tell_of_collection(collection: str, model: str) -> None:
    """To who fills a collection, if the model of that name is the bundled one."""
    if model == NAME:
        say(
            f"{collection!r} is a collection of the bundled model, which {_KNOWS}. For "
            f"photographs: {_OTHER}, and index into another collection (-c NAME)."
        )


def tell_of_search(collection: str, model: str, data: Path | None) -> None:
    """As tell_of_collection, to who searches one: with the first search of a day beside a stack on
    this machine, whose folder is where that is kept."""
    if model == NAME and _is_due((data or default_data()) / _MARK):
        tell_of_collection(collection, model)


def _is_due(mark: Path) -> bool:
    """Whether it was not told within a day; where that cannot be kept, it always is."""
    with contextlib.suppress(OSError):
        if abs(time.time() - mark.stat().st_mtime) < _AGAIN_S:
            return False
    with contextlib.suppress(OSError):
        mark.touch()
    return True
