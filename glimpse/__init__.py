"""The client of glimpse's services, and their contracts' generated stubs.

Names are imported when they are first used: a program that only searches never loads asyncio's
half, and the command line shows its help without gRPC.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glimpse import errors
    from glimpse.aio import AsyncClient
    from glimpse.client import Client
    from glimpse.errors import GlimpseError
    from glimpse.results import (
        Acknowledgement,
        Answer,
        BatchSearchResult,
        Collection,
        FoundImages,
        Hit,
        ImageFile,
        Outcome,
        SearchResult,
        StoredImage,
        Term,
    )

__version__ = "0.1.0"

__all__ = [
    "Acknowledgement",
    "Answer",
    "AsyncClient",
    "BatchSearchResult",
    "Client",
    "Collection",
    "FoundImages",
    "GlimpseError",
    "Hit",
    "ImageFile",
    "Outcome",
    "SearchResult",
    "StoredImage",
    "Term",
    "errors",
]

_MODULES = {"AsyncClient": "aio", "Client": "client", "GlimpseError": "errors"}
"""Where names are defined that are not in results."""


def __getattr__(name: str) -> object:
    if name == "errors":
        return importlib.import_module("glimpse.errors")
    if name not in __all__:
        raise AttributeError(f"module 'glimpse' has no attribute {name!r}")
    module = importlib.import_module(f"glimpse.{_MODULES.get(name, 'results')}")
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
