"""Messages into queries, answers into messages; the bounds are those of queries.py."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from glimpse.errors import GlimpseError, InvalidInput
from glimpse.query.v1 import query_pb2 as pb
from glimpse.transport.status import to_status
from services.query.conditions import filter_of
from services.query.queries import (
    DEFAULT_FIELDS,
    DEFAULT_LIMIT,
    MAX_TERMS,
    Given,
    IndexedImage,
    Options,
    Part,
    PictureFile,
    Query,
    Text,
    WeightedPart,
)
from services.query.search import Answers, Page
from services.vectors.store import CollectionSpec, ScoredRow

_SCORE_DECIMALS = 6


def query_of(message: pb.SearchRequest | pb.BatchQuery, prefix: str, max_image_bytes: int) -> Query:
    """The query of a request or of a batch's item (`prefix` "queries[i]."); raises InvalidInput."""
    kind = message.WhichOneof("query")
    if kind is None:
        raise InvalidInput(
            f"{prefix}query",
            "must be one of text, image, image_id, vector, weighted_sum; none is set",
        )
    field = f"{prefix}{kind}"
    if kind == "weighted_sum":
        terms = tuple(
            _term(term, f"{field}.terms[{index}]", max_image_bytes)
            for index, term in enumerate(message.weighted_sum.terms[: MAX_TERMS + 1])
        )
        return Query(field, terms)
    return Query(field, (WeightedPart(field, _part(message, kind, prefix, max_image_bytes)),))


def _term(message: pb.Term, field: str, max_image_bytes: int) -> WeightedPart:
    kind = message.WhichOneof("query")
    if kind is None:
        raise InvalidInput(field, "must be one of text, image, image_id, vector; none is set")
    weight = message.weight if message.HasField("weight") else 1.0
    return WeightedPart(field, _part(message, kind, f"{field}.", max_image_bytes), weight)


def _part(
    message: pb.SearchRequest | pb.BatchQuery | pb.Term,
    kind: str,
    prefix: str,
    max_image_bytes: int,
) -> Part:
    field = f"{prefix}{kind}"
    if kind == "text":
        return Text(field, message.text)
    if kind == "image":
        return PictureFile(field, message.image, max_image_bytes)
    if kind == "image_id":
        return IndexedImage(field, message.image_id)
    return Given(f"{field}.values", np.array(message.vector.values, dtype=np.float32))


def options_of(message: pb.SearchOptions) -> Options:
    """The options of a request; raises InvalidInput."""
    if message.consistency not in pb.Consistency.values():
        raise InvalidInput(
            "options.consistency", f"must be a known consistency, not {message.consistency}"
        )
    min_score = None
    if message.HasField("min_score"):
        # Scores have six decimals: a bound of 0.3, as a float a little more, must let 0.3 pass.
        min_score = round(message.min_score, _SCORE_DECIMALS)
    return Options(
        limit=message.limit if message.HasField("limit") else DEFAULT_LIMIT,
        offset=message.offset,
        filter=filter_of(message),
        min_score=min_score,
        fields=fields_of(message.output_fields),
        strong=message.consistency == pb.CONSISTENCY_STRONG,
        prompt_template=message.prompt_template,
        include_query_images=message.include_query_images,
    )


def fields_of(names: Sequence[str]) -> tuple[str, ...]:
    """The attributes that are asked for, each once; none named: the default ones."""
    return tuple(dict.fromkeys(names)) or DEFAULT_FIELDS


def digest_of(request: pb.SearchRequest) -> bytes:
    """SHA-256 of all that must stay the same from page to page."""
    same = pb.SearchRequest()
    same.CopyFrom(request)
    same.ClearField("page_token")
    same.options.ClearField("limit")
    same.options.ClearField("offset")
    return hashlib.sha256(same.SerializeToString(deterministic=True)).digest()


def results_to_messages(answers: Answers) -> list[pb.BatchResult]:
    """One message per query, in order."""
    return [_result(result) for result in answers.results]


def _result(result: Page | GlimpseError) -> pb.BatchResult:
    if isinstance(result, GlimpseError):
        return pb.BatchResult(error=to_status(result))
    return pb.BatchResult(
        hits=pb.Hits(hits=hits_to_messages(result.hits)), text_truncated=result.truncated
    )


def hits_to_messages(hits: Sequence[ScoredRow]) -> list[pb.Hit]:
    """Hits with the attributes that were asked for."""
    return [
        pb.Hit(id=hit.id, score=hit.score, attributes=attributes_to_message(hit.fields))
        for hit in hits
    ]


def attributes_to_message(fields: dict[str, Any]) -> pb.Attributes:
    """Attributes by name; those that are not in `fields` stay unset."""
    plain = {name: value for name, value in fields.items() if name not in ("metadata", "vector")}
    attributes = pb.Attributes(**plain)
    if "metadata" in fields:
        attributes.metadata.update(fields["metadata"])
    if "vector" in fields:
        # .tolist(): five times as fast as handing the array over.
        attributes.vector.values.extend(fields["vector"].tolist())
    return attributes


def model_to_message(collection: CollectionSpec) -> pb.Model:
    """The model that fills the collection."""
    return pb.Model(name=collection.model_name, fingerprint=collection.model_fingerprint)


def timing_to_message(answers: Answers, total_s: float) -> pb.Timing:
    """Where the time of a call went."""
    timing = answers.timing
    return pb.Timing(
        queue_us=timing.queue_us,
        encode_us=timing.encode_us,
        search_us=timing.search_us,
        total_us=int(total_s * 1e6),
    )
