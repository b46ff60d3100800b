"""The client of glimpse's services, and their contracts' generated stubs."""

from glimpse.aio import AsyncClient
from glimpse.client import Client
from glimpse.errors import GlimpseError
from glimpse.results import (
    Acknowledgement,
    Collection,
    Hit,
    ImageFile,
    Outcome,
    SearchResult,
    StoredImage,
    Term,
)

__all__ = [
    "Acknowledgement",
    "AsyncClient",
    "Client",
    "Collection",
    "GlimpseError",
    "Hit",
    "ImageFile",
    "Outcome",
    "SearchResult",
    "StoredImage",
    "Term",
]
