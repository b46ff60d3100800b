"""A picture to search by becomes what the model sees of it before it is sent, where that is less: a
PNG of the square that the services would make of the file. Asking how a model sees, and sending,
are the clients' job."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator

from google.protobuf.message import Message

from glimpse.errors import InvalidImage
from glimpse.pictures.preprocessing import Preprocessing
from glimpse.query.v1 import query_pb2

_SMALL_BYTES = 2**16  # for a file up to this size, nobody is asked how it is seen
_MAX_PIXELS = 250_000_000  # as the services take
_MAX_DECODE_BYTES = 2**30  # of this process' memory; what takes more is the services' to decode


class LargePictures:
    """The pictures of one request that may become smaller; `collection` is the one it asks."""

    def __init__(self, request: Message) -> None:
        self.collection: str = getattr(request, "collection", "")
        self._terms = [
            (term, content)
            for term in _terms(request)
            if term.WhichOneof("query") == "image" and len(content := term.image) > _SMALL_BYTES
        ]

    def __bool__(self) -> bool:
        return bool(self._terms)

    def shrink(self, preprocessing: Preprocessing) -> None:
        """Has the request hold what a model sees of each; takes as long as decoding them."""
        for term, content in self._terms:
            term.image = shrunk(content, preprocessing)

    def restore(self) -> None:
        """Has the request hold the files as they were."""
        for term, content in self._terms:
            term.image = content


def shrunk(content: bytes, preprocessing: Preprocessing) -> bytes:
    """A PNG of what a model sees of a picture file, if that is less; else the file: also where
    Pillow is missing, and where the file cannot be decoded, which is the service's to say."""
    if len(content) <= 3 * preprocessing.image_size**2:  # no PNG is sure to be less
        return content
    try:
        from glimpse.pictures import files, preprocess  # Pillow, which comes with an extra
    except ImportError:
        return content
    square = io.BytesIO()
    try:
        opened = files.open_picture(content, _MAX_PIXELS)
        if preprocess.decode_bytes(opened, preprocessing) > _MAX_DECODE_BYTES:
            return content
        image, _, _ = preprocess.seen_square(opened, preprocessing)
        image.save(square, "PNG", compress_level=1)
    except (InvalidImage, MemoryError):
        return content
    return min(square.getvalue(), content, key=len)


_Query = query_pb2.SearchRequest | query_pb2.BatchQuery


def _terms(request: Message) -> Iterator[_Query | query_pb2.Term]:
    """Whatever may hold a picture."""
    queries: Iterable[_Query] = ()
    if isinstance(request, query_pb2.SearchRequest):
        queries = (request,)
    elif isinstance(request, query_pb2.BatchSearchRequest):
        queries = request.queries
    for query in queries:
        if query.WhichOneof("query") == "weighted_sum":
            yield from query.weighted_sum.terms
        else:
            yield query
