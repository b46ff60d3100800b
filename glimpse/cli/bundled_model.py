"""What the bundled model knows, as commands tell it, and how to get another."""

from __future__ import annotations

from glimpse.cli.console import say

NAME = "demo"
"""As encoder and collections name it."""

_KNOWS = "knows nothing but the demo's drawn pictures"
_OTHER = "glimpse up --model ViT-B/32"


def tell_at_start() -> None:
    """To who starts it."""
    say(
        f"That is the bundled model, which {_KNOWS}. For photographs: {_OTHER}, which downloads "
        "354 MB once."
    )


def tell_of_collection(collection: str, model: str) -> None:
    """To who fills or searches a collection, if the model of that name is the bundled one."""
    if model == NAME:
        say(
            f"{collection!r} is a collection of the bundled model, which {_KNOWS}. For "
            f"photographs: {_OTHER}, and index into another collection (-c NAME)."
        )
