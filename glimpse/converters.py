"""Between the client's plain values and the contracts' messages."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import json_format, struct_pb2

from glimpse.errors import InvalidInput
from glimpse.indexer.v1 import indexer_pb2
from glimpse.pictures.preprocessing import Preprocessing
from glimpse.query.v1 import query_pb2
from glimpse.results import (
    Answer,
    BatchSearchResult,
    Collection,
    CollectionModel,
    CollectionPage,
    FoundImages,
    Generation,
    Hit,
    ImageFile,
    ImagePage,
    Model,
    SearchResult,
    StoredImage,
    Term,
    Timing,
)
from glimpse.transport.status import from_status

_MAX_EXACT_WHOLE = 2**53
_MAX_SEARCHED_BYTES = 2**29  # of a file, of which a service gets no more than the model sees
_MAX_UINT32 = 2**32 - 1
_MAX_INT32 = 2**31 - 1


def terms_of(
    text: str | None,
    image: bytes | str | os.PathLike[str] | None,
    image_id: str | None,
    vector: Sequence[float] | None,
    terms: Sequence[Term] | None,
) -> Sequence[Term]:
    """What a search looks for, of which exactly one is given. Raises ValueError."""
    if terms is None:
        return [Term(text=text, image=image, image_id=image_id, vector=vector)]
    if any(given is not None for given in (text, image, image_id, vector)):
        raise ValueError(
            "terms exclude other queries: put text, image, image_id and vector into them"
        )
    return terms


def index_options(
    collection: str, create_collection: bool, force: bool, patience_s: float, keep_copies: bool
) -> indexer_pb2.IndexOptions:
    """An ingest's options: the service waits for what it stands on no longer than its caller."""
    return indexer_pb2.IndexOptions(
        collection=collection,
        create_collection=create_collection,
        force=force,
        max_wait_ms=int(min(max(patience_s * 1000, 1), _MAX_UINT32)),
        keep_copies=keep_copies,
    )


def search_options(
    *,
    limit: int,
    offset: int,
    filter: str | query_pb2.Condition,
    min_score: float | None,
    output_fields: Sequence[str],
    strong: bool,
    prompt_template: str,
    include_query_images: bool,
) -> query_pb2.SearchOptions:
    """A search's options. Raises InvalidInput for numbers and texts that no message can hold."""
    for name, number in (("limit", limit), ("offset", offset)):
        if abs(number) > _MAX_INT32:
            raise InvalidInput(f"options.{name}", f"must fit into 32 bits, not {number}")
    options = query_pb2.SearchOptions(
        limit=limit,
        offset=offset,
        min_score=min_score,
        output_fields=output_fields,
        prompt_template=checked_text("options.prompt_template", prompt_template),
        include_query_images=include_query_images,
    )
    if strong:
        options.consistency = query_pb2.CONSISTENCY_STRONG
    if isinstance(filter, query_pb2.Condition):
        options.condition.CopyFrom(filter)
    elif filter:
        options.filter = checked_text("options.filter", filter)
    return options


def batch_query(query: str | Term | Sequence[Term]) -> query_pb2.BatchQuery:
    """One query of a batch: a text, a term, or terms to be summed."""
    if isinstance(query, str):
        query = Term(text=query)
    terms = [query] if isinstance(query, Term) else query
    return query_pb2.BatchQuery(**query_fields(terms))


def query_fields(terms: Sequence[Term]) -> dict[str, Any]:
    """The request's oneof: one term of weight 1 stands for itself, others are summed."""
    if len(terms) == 1 and terms[0].weight == 1.0:
        return _term_fields(terms[0])
    summed = [query_pb2.Term(weight=term.weight, **_term_fields(term)) for term in terms]
    return {"weighted_sum": query_pb2.WeightedSum(terms=summed)}


def _term_fields(term: Term) -> dict[str, Any]:
    if term.text is not None:
        return {"text": checked_text("text", term.text)}
    if term.image is not None:
        return {"image": _file_bytes(term.image)}
    if term.image_id is not None:
        return {"image_id": term.image_id}
    assert term.vector is not None
    try:
        values = [float(value) for value in term.vector]
    except (TypeError, ValueError):
        raise TypeError("vector: must be a list of numbers") from None
    return {"vector": query_pb2.Vector(values=values)}


def checked_text(field: str, text: str) -> str:
    """`text` if it can be sent: a file's name that is not UTF-8 cannot. Raises InvalidInput."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInput(field, f"must be valid Unicode, not {text!a}") from None
    return text


def _file_bytes(image: bytes | str | os.PathLike[str]) -> bytes:
    if isinstance(image, bytes):
        return image
    return ImageFile(path=Path(image)).read(_MAX_SEARCHED_BYTES)


def search_result(response: query_pb2.SearchResponse) -> SearchResult:
    """A SearchResponse as a SearchResult."""
    return SearchResult(
        hits=[hit(message) for message in response.hits],
        next_page_token=response.next_page_token,
        text_truncated=response.text_truncated,
        model=_model(response.model),
        timing=_timing(response.timing),
        prompt_template=response.prompt_template,
        generation=response.generation,
    )


def batch_search_result(response: query_pb2.BatchSearchResponse) -> BatchSearchResult:
    """A BatchSearchResponse as a BatchSearchResult."""
    answers = [
        Answer(
            hits=[hit(message) for message in result.hits.hits],
            text_truncated=result.text_truncated,
            error=from_status(result.error) if result.HasField("error") else None,
            prompt_template=result.prompt_template,
        )
        for result in response.results
    ]
    return BatchSearchResult(
        answers, _model(response.model), _timing(response.timing), response.generation
    )


def collection_model(response: query_pb2.GetModelResponse) -> CollectionModel:
    """A GetModelResponse as a CollectionModel."""
    seen = response.preprocessing
    try:
        preprocessing = Preprocessing.numbered(
            seen.version, seen.image_size, seen.resize, seen.interpolation
        )
    except ValueError:
        preprocessing = None
    return CollectionModel(_model(response.model), preprocessing)


def _model(message: query_pb2.Model) -> Model:
    return Model(message.name, message.fingerprint)


def _timing(message: query_pb2.Timing) -> Timing:
    return Timing(message.queue_us, message.encode_us, message.search_us, message.total_us)


def hit(message: query_pb2.Hit) -> Hit:
    """A Hit as a Hit."""
    return Hit(id=message.id, score=message.score, **_attributes(message.attributes))


def found_images(response: query_pb2.GetImagesResponse) -> FoundImages:
    """A GetImagesResponse as FoundImages."""
    images = [StoredImage(id=i.id, **_attributes(i.attributes)) for i in response.images]
    return FoundImages(images, list(response.missing_ids))


def image_page(response: indexer_pb2.ListImagesResponse) -> ImagePage:
    """A ListImagesResponse as an ImagePage."""
    return ImagePage([_listed(image) for image in response.images], response.next_after_id)


def _listed(message: indexer_pb2.ListedImage) -> StoredImage:
    return StoredImage(
        id=message.id,
        uri=message.uri,
        width=message.width,
        height=message.height,
        format=message.format,
        metadata=plain(message.metadata),
        indexed_at_ms=message.indexed_at_ms,
        content_sha256=message.content_sha256,
        vector=tuple(message.vector),
    )


def _attributes(message: query_pb2.Attributes) -> dict[str, Any]:
    return {
        "uri": message.uri,
        "width": message.width,
        "height": message.height,
        "format": message.format,
        "metadata": plain(message.metadata),
        "indexed_at_ms": message.indexed_at_ms,
        "content_sha256": message.content_sha256,
        "vector": tuple(message.vector.values),
    }


def collection(message: indexer_pb2.Collection) -> Collection:
    """A Collection as a Collection."""
    return Collection(
        name=message.name,
        model=Model(message.model_name, message.model_fingerprint),
        dimension=message.dimension,
        index_kind=indexer_pb2.IndexKind.Name(message.index_kind).removeprefix("INDEX_KIND_"),
        index_state=message.index_state,
        metric=indexer_pb2.Metric.Name(message.metric).removeprefix("METRIC_"),
        rows=message.rows,
        bytes=message.bytes,
        created_at_ms=message.created_at_ms,
        error=from_status(message.error) if message.HasField("error") else None,
        indexed_rows=message.indexed_rows,
        pending_rows=message.pending_rows,
        index_left_s=message.index_left_ms / 1000 or None,
        described_at_ms=message.described_at_ms,
    )


def generation(message: indexer_pb2.Generation) -> Generation:
    """A Generation as a Generation."""
    return Generation(message.number, message.serving, collection(message.collection))


def collection_page(response: indexer_pb2.ListCollectionsResponse) -> CollectionPage:
    """A ListCollectionsResponse as a CollectionPage."""
    collections = [collection(message) for message in response.collections]
    return CollectionPage(collections, response.next_page_token)


def index_kind(name: str) -> indexer_pb2.IndexKind:
    """The kind of index by Milvus' name. Raises InvalidInput."""
    return _number(indexer_pb2.IndexKind, "INDEX_KIND_", name, "index_kind")


def metric(name: str) -> indexer_pb2.Metric:
    """The metric by name. Raises InvalidInput."""
    return _number(indexer_pb2.Metric, "METRIC_", name, "metric")


def _number(kinds: Any, prefix: str, name: str, field: str) -> Any:
    """The number of an enum's value by the name that people use. Raises InvalidInput."""
    try:
        return kinds.Value(prefix + name.upper())
    except ValueError:
        names = ", ".join(n.removeprefix(prefix) for n in kinds.keys() if "UNSPECIFIED" not in n)  # noqa: SIM118 (no dict)
        raise InvalidInput(field, f"must be one of {names}, not {name!r}") from None


def image_message(image: ImageFile, content: bytes, sequence: int) -> indexer_pb2.Image:
    """An ImageFile with the bytes read for it. Raises InvalidInput for metadata that is no JSON."""
    return indexer_pb2.Image(
        sequence=sequence,
        id=checked_text("id", image.id),
        content=content,
        uri=checked_text("uri", image.address),
        metadata=struct(image.metadata),
        indexed_at_ms=image.indexed_at_ms,
    )


def struct(metadata: Mapping[str, Any]) -> struct_pb2.Struct | None:
    """Metadata as a Struct; None when there is none. Raises InvalidInput, also for an integer that
    a Struct, whose numbers are doubles, would change."""
    if not metadata:
        return None
    try:
        _check_integers(metadata)
        return json_format.ParseDict(dict(metadata), struct_pb2.Struct())
    except (json_format.ParseError, ValueError, TypeError, RecursionError):
        raise InvalidInput(
            "metadata", "must be an object of strings, numbers, booleans, lists and objects"
        ) from None


def _check_integers(value: Any) -> None:
    """Raises InvalidInput for one, anywhere in a JSON value, that a double would change."""
    if isinstance(value, int) and abs(value) > _MAX_EXACT_WHOLE:
        raise InvalidInput("metadata", f"{value} is beyond 2^53: give it as text")
    items = value.values() if isinstance(value, Mapping) else value
    if isinstance(items, Iterable) and not isinstance(items, str):
        for item in items:
            _check_integers(item)


def plain(message: struct_pb2.Struct) -> dict[str, Any]:
    """A Struct as Python values; whole numbers up to 2^53 become int."""
    return {key: _plain(value) for key, value in message.fields.items()}


def _plain(value: struct_pb2.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return value.string_value
    if kind == "number_value":
        number = value.number_value
        whole = number.is_integer() and abs(number) <= _MAX_EXACT_WHOLE
        return int(number) if whole else number
    if kind == "struct_value":
        return plain(value.struct_value)
    if kind == "list_value":
        return [_plain(item) for item in value.list_value.values]
    return value.bool_value if kind == "bool_value" else None
