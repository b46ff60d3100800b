"""The client of glimpse's services, and their contracts' generated stubs."""

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
]
