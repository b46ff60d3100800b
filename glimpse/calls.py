"""The services' calls, described once for both clients; making them is the clients' job."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from google.protobuf.message import Message

from glimpse import converters
from glimpse.arguments import checked
from glimpse.indexer.v1 import indexer_pb2
from glimpse.query.v1 import query_pb2
from glimpse.results import (
    BatchSearchResult,
    Collection,
    CollectionModel,
    CollectionPage,
    FoundImages,
    ImagePage,
    SearchResult,
    Term,
)

MAX_IDS = 1_000
EXPORTED_FIELDS = (
    "vector",
    "uri",
    "width",
    "height",
    "format",
    "indexed_at_ms",
    "content_sha256",
    "metadata",
)

Result = TypeVar("Result")


@dataclass(frozen=True)
class UnaryCall(Generic[Result]):
    """One call that is to be made. `timeout_s` bounds it, in seconds; None: the client's bound."""

    service: Literal["query", "indexer"]
    method: str
    request: Message
    result: Callable[[Any], Result]
    timeout_s: float | None = None


@checked
def search(
    collection: str,
    text: str | None = None,
    *,
    image: bytes | str | os.PathLike[str] | None = None,
    image_id: str | None = None,
    vector: Sequence[float] | None = None,
    terms: Sequence[Term] | None = None,
    limit: int = 10,
    offset: int = 0,
    filter: str | query_pb2.Condition = "",
    min_score: float | None = None,
    output_fields: Sequence[str] = (),
    strong: bool = False,
    prompt_template: str = "",
    include_query_images: bool = False,
    page_token: str = "",
    timeout_s: float | None = None,
) -> UnaryCall[SearchResult]:
    """The best images for a text, a picture (bytes or path), an indexed image, a vector, or a
    weighted sum of these (`terms`): give exactly one of the five.

    Bounds are those of glimpse/query/v1/query.proto. `strong` sees everything acknowledged
    before the call, slowly. Raises ValueError unless exactly one thing to look for is given.
    """
    request = query_pb2.SearchRequest(
        collection=converters.checked_text("collection", collection),
        options=converters.search_options(
            limit=limit,
            offset=offset,
            filter=filter,
            min_score=min_score,
            output_fields=output_fields,
            strong=strong,
            prompt_template=prompt_template,
            include_query_images=include_query_images,
        ),
        page_token=page_token,
        **converters.query_fields(converters.terms_of(text, image, image_id, vector, terms)),
    )
    return UnaryCall("query", "Search", request, converters.search_result, timeout_s)


@checked
def batch_search(
    collection: str,
    queries: Sequence[str | Term | Sequence[Term]],
    *,
    limit: int = 10,
    offset: int = 0,
    filter: str | query_pb2.Condition = "",
    min_score: float | None = None,
    output_fields: Sequence[str] = (),
    strong: bool = False,
    prompt_template: str = "",
    include_query_images: bool = False,
    timeout_s: float | None = None,
) -> UnaryCall[BatchSearchResult]:
    """The answers to 1 to 256 queries, in order: each is a text, a term, or terms to be summed.

    The options are those of `search`, the same for all. A query that is wrong fails alone.
    """
    request = query_pb2.BatchSearchRequest(
        collection=converters.checked_text("collection", collection),
        options=converters.search_options(
            limit=limit,
            offset=offset,
            filter=filter,
            min_score=min_score,
            output_fields=output_fields,
            strong=strong,
            prompt_template=prompt_template,
            include_query_images=include_query_images,
        ),
        queries=[converters.batch_query(query) for query in queries],
    )
    return UnaryCall("query", "BatchSearch", request, converters.batch_search_result, timeout_s)


@checked
def get_images(
    collection: str,
    ids: Sequence[str],
    output_fields: Sequence[str] = (),
    timeout_s: float | None = None,
) -> UnaryCall[FoundImages]:
    """Images by id, at most 1,000."""
    request = query_pb2.GetImagesRequest(
        collection=collection, ids=ids, output_fields=output_fields
    )
    return UnaryCall("query", "GetImages", request, converters.found_images, timeout_s)


@checked
def get_model(collection: str, timeout_s: float | None = None) -> UnaryCall[CollectionModel]:
    """The model of a collection, and how it sees pictures."""
    request = query_pb2.GetModelRequest(
        collection=converters.checked_text("collection", collection)
    )
    return UnaryCall("query", "GetModel", request, converters.collection_model, timeout_s)


@checked
def deletions(
    collection: str,
    ids: Sequence[str] | None,
    filter: str | None,
    timeout_s: float | None,
) -> list[UnaryCall[int]]:
    """The calls that delete any number of ids, or what a filter chooses. Raises ValueError."""
    if (ids is None) == (filter is None):
        raise ValueError("give exactly one of ids and filter")
    if ids is None:
        selectors: list[dict[str, Any]] = [{"filter": filter}]
    else:
        selectors = [{"ids": indexer_pb2.Ids(ids=part)} for part in _parts(ids) or [()]]
    requests = [
        indexer_pb2.DeleteImagesRequest(collection=collection, **selector) for selector in selectors
    ]
    return [
        UnaryCall("indexer", "DeleteImages", request, lambda response: response.deleted, timeout_s)
        for request in requests
    ]


@checked
def count_images(
    collection: str, filter: str = "", timeout_s: float | None = None
) -> UnaryCall[int]:
    """How many images a filter takes, exactly; without one, all of them."""
    request = indexer_pb2.CountImagesRequest(
        collection=converters.checked_text("collection", collection),
        filter=converters.checked_text("filter", filter),
    )
    return UnaryCall("indexer", "CountImages", request, lambda response: response.count, timeout_s)


@checked
def lists_of_images(
    filter: str, ids: Sequence[str] | None, after_id: str
) -> list[indexer_pb2.Ids | None]:
    """The lists that together are one of a filter, or of any number of ids, in the ids' order.
    Raises ValueError."""
    if ids is None:
        return [None]
    if filter:
        raise ValueError("give either ids or filter")
    behind = sorted({identity for identity in ids if identity > after_id})
    return [indexer_pb2.Ids(ids=part) for part in _parts(behind)]


def _parts(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + MAX_IDS] for start in range(0, len(ids), MAX_IDS)]


@checked
def image_page(
    collection: str,
    filter: str,
    ids: indexer_pb2.Ids | None,
    output_fields: Sequence[str],
    after_id: str,
    timeout_s: float | None,
) -> UnaryCall[ImagePage]:
    """A page of a collection's images, in the order of their ids; the first one behind an id."""
    request = indexer_pb2.ListImagesRequest(
        collection=converters.checked_text("collection", collection),
        filter=converters.checked_text("filter", filter),
        ids=ids,
        output_fields=output_fields,
        after_id=after_id,
    )
    return UnaryCall("indexer", "ListImages", request, converters.image_page, timeout_s)


@checked
def export_page(
    collection: str,
    after_id: str = "",
    *,
    bounded: bool = False,
    timeout_s: float | None = None,
) -> UnaryCall[indexer_pb2.ListImagesResponse]:
    """A page of a collection with everything that is stored, packed; the first one behind an id.

    It sees all that was written before; `bounded`, all that was before the last one that was not.
    """
    request = indexer_pb2.ListImagesRequest(
        collection=converters.checked_text("collection", collection),
        after_id=after_id,
        output_fields=EXPORTED_FIELDS,
        packed=True,
        bounded=bounded,
    )
    return UnaryCall("indexer", "ListImages", request, lambda response: response, timeout_s)


@checked
def create_collection(
    collection: str,
    *,
    index_kind: str = "AUTO",
    metric: str = "INNER_PRODUCT",
    timeout_s: float | None = None,
) -> UnaryCall[Collection]:
    """Makes an empty collection; names as in Milvus: FLAT, HNSW …; INNER_PRODUCT, COSINE."""
    request = indexer_pb2.CreateCollectionRequest(
        collection=collection,
        index_kind=converters.index_kind(index_kind),
        metric=converters.metric(metric),
    )
    return UnaryCall("indexer", "CreateCollection", request, _its_collection, timeout_s)


@checked
def get_collection(
    collection: str, *, exact: bool = False, timeout_s: float | None = None
) -> UnaryCall[Collection]:
    """A collection; its rows are the store's estimate, or, slower, counted if `exact` asks so."""
    request = indexer_pb2.GetCollectionRequest(collection=collection, exact_rows=exact)
    return UnaryCall("indexer", "GetCollection", request, _its_collection, timeout_s)


@checked
def collection_page(page_token: str, timeout_s: float | None) -> UnaryCall[CollectionPage]:
    """A page of the collections; the token is that of the page before, or empty."""
    request = indexer_pb2.ListCollectionsRequest(page_token=page_token)
    return UnaryCall("indexer", "ListCollections", request, converters.collection_page, timeout_s)


@checked
def drop_collection(collection: str, timeout_s: float | None = None) -> UnaryCall[None]:
    """Removes a collection and all its rows, for good."""
    request = indexer_pb2.DropCollectionRequest(collection=collection, confirm=collection)
    return UnaryCall("indexer", "DropCollection", request, lambda _: None, timeout_s)


def _its_collection(
    response: indexer_pb2.CreateCollectionResponse | indexer_pb2.GetCollectionResponse,
) -> Collection:
    return converters.collection(response.collection)
