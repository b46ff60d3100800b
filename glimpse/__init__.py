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
    from glimpse.aio_ingest import AsyncIngest
    from glimpse.client import Client
    from glimpse.errors import (
        AlreadyExists,
        DeadlineExceeded,
        FailedPrecondition,
        GlimpseError,
        InvalidImage,
        InvalidInput,
        ModelMismatch,
        NotFound,
        Overloaded,
        PermissionDenied,
        Unauthenticated,
        Unavailable,
        UnreadableFile,
        UnusableCredentials,
    )
    from glimpse.ingest import Ingest
    from glimpse.results import (
        Acknowledgement,
        Answer,
        BatchSearchResult,
        Collection,
        CollectionModel,
        FoundImages,
        Generation,
        Hit,
        ImageFile,
        Model,
        Outcome,
        SearchResult,
        StoredImage,
        Term,
        Timing,
    )

__version__ = "0.1.0"

__all__ = [
    "Acknowledgement",
    "AlreadyExists",
    "Answer",
    "AsyncClient",
    "AsyncIngest",
    "BatchSearchResult",
    "Client",
    "Collection",
    "CollectionModel",
    "DeadlineExceeded",
    "FailedPrecondition",
    "FoundImages",
    "Generation",
    "GlimpseError",
    "Hit",
    "ImageFile",
    "Ingest",
    "InvalidImage",
    "InvalidInput",
    "Model",
    "ModelMismatch",
    "NotFound",
    "Outcome",
    "Overloaded",
    "PermissionDenied",
    "SearchResult",
    "StoredImage",
    "Term",
    "Timing",
    "Unauthenticated",
    "Unavailable",
    "UnreadableFile",
    "UnusableCredentials",
    "errors",
]

_MODULES = {
    "AsyncClient": "aio",
    "AsyncIngest": "aio_ingest",
    "Client": "client",
    "Ingest": "ingest",
}
"""Where names are defined that are neither in errors nor in results."""


def __getattr__(name: str) -> object:
    if name == "errors":
        return importlib.import_module("glimpse.errors")
    if name not in __all__:
        raise AttributeError(f"module 'glimpse' has no attribute {name!r}")
    for module in (_MODULES[name],) if name in _MODULES else ("errors", "results"):
        value = getattr(importlib.import_module(f"glimpse.{module}"), name, None)
        if value is not None:
            globals()[name] = value
            return value
    raise AttributeError(f"module 'glimpse' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
