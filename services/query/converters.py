"""Messages into queries, conditions into filters, answers into messages; sizes are bounds.py's.

What may be long is done in turns, between which other calls go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from google.protobuf import struct_pb2

from glimpse.errors import GlimpseError, InvalidInput
from glimpse.query.v1 import query_pb2 as pb
from glimpse.transport.status import to_status
from services.common.event_loop import paced
from services.query import bounds
from services.query.queries import (
    DEFAULT_FIELDS,
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
from services.vectors import filters
from services.vectors.filters import AnyFilter
from services.vectors.records import CollectionSpec, ScoredRow

_SCORE_DECIMALS = 6
_OPERATORS: dict[int, filters.Operator] = {
    pb.OPERATOR_EQUAL: "==",
    pb.OPERATOR_NOT_EQUAL: "!=",
    pb.OPERATOR_LESS: "<",
    pb.OPERATOR_LESS_OR_EQUAL: "<=",
    pb.OPERATOR_GREATER: ">",
    pb.OPERATOR_GREATER_OR_EQUAL: ">=",
}


async def queries_of(
    request: pb.BatchSearchRequest, max_image_bytes: int
) -> list[Query | GlimpseError]:
    """Each query of a batch, or what is wrong with it, its size included."""
    queries: list[Query | GlimpseError] = []
    async for index, message in paced(enumerate(request.queries)):
        prefix = f"queries[{index}]."
        try:
            bounds.check_query(message, prefix, request.options, max_image_bytes)
            queries.append(await query_of(message, prefix))
        except InvalidInput as error:
            queries.append(error)
    return queries


async def query_of(message: pb.SearchRequest | pb.BatchQuery, prefix: str = "") -> Query:
    """The query of a request or of a batch's item (`prefix` "queries[i]."); raises InvalidInput."""
    kind = message.WhichOneof("query")
    if kind is None:
        raise InvalidInput(
            f"{prefix}query",
            "must be one of text, image, image_id, vector, weighted_sum; none is set",
        )
    field = f"{prefix}{kind}"
    if kind == "weighted_sum":
        terms = enumerate(message.weighted_sum.terms)
        return Query(field, tuple([_term(t, f"{field}.terms[{i}]") async for i, t in paced(terms)]))
    return Query(field, (WeightedPart(field, _part(message, kind, prefix)),))


def _term(message: pb.Term, field: str) -> WeightedPart:
    kind = message.WhichOneof("query")
    if kind is None:
        raise InvalidInput(field, "must be one of text, image, image_id, vector; none is set")
    weight = message.weight if message.HasField("weight") else 1.0
    return WeightedPart(field, _part(message, kind, f"{field}."), weight)


def _part(message: pb.SearchRequest | pb.BatchQuery | pb.Term, kind: str, prefix: str) -> Part:
    field = f"{prefix}{kind}"
    if kind == "text":
        return Text(field, message.text)
    if kind == "image":
        return PictureFile(field, message.image)
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
        limit=message.limit if message.HasField("limit") else bounds.DEFAULT_LIMIT,
        offset=message.offset,
        filter=_filter_of(message),
        min_score=min_score,
        fields=fields_of(message.output_fields),
        strong=message.consistency == pb.CONSISTENCY_STRONG,
        prompt_template=message.prompt_template,
        include_query_images=message.include_query_images,
    )


def fields_of(names: Sequence[str]) -> tuple[str, ...]:
    """The attributes that are asked for, each once; none named: the default ones."""
    return tuple(dict.fromkeys(names)) or DEFAULT_FIELDS


def _filter_of(options: pb.SearchOptions) -> AnyFilter:
    """The filter of the options, "" for none; raises InvalidInput, naming the condition."""
    if options.WhichOneof("where") == "condition":
        return _condition(options.condition, "options.condition")
    return options.filter


def _condition(message: pb.Condition, field: str) -> filters.Filter:
    kind = message.WhichOneof("kind")
    if kind is None:
        raise _invalid_filter(
            field, "must be one of comparison, all_of, any_of, negation; none is set"
        )
    field = f"{field}.{kind}"
    if kind == "comparison":
        return _comparison(message.comparison, field)
    if kind == "negation":
        return filters.Not(_condition(message.negation, field))
    children = (message.all_of if kind == "all_of" else message.any_of).conditions
    if not children:
        raise _invalid_filter(f"{field}.conditions", "must be 1 or more")
    terms = tuple(
        _condition(child, f"{field}.conditions[{index}]") for index, child in enumerate(children)
    )
    return filters.And(terms) if kind == "all_of" else filters.Or(terms)


def _comparison(message: pb.Comparison, field: str) -> filters.Filter:
    path = tuple(message.path)
    if message.operator == pb.OPERATOR_IN:
        if message.value.WhichOneof("kind") != "list_value":
            raise _invalid_filter(f"{field}.value", "must be a list for OPERATOR_IN")
        values = tuple(
            _scalar(value, f"{field}.value[{index}]")
            for index, value in enumerate(message.value.list_value.values)
        )
        leaf: filters.Filter = filters.AnyOf(message.field, values, path)
    else:
        value = _scalar(message.value, f"{field}.value")
        if message.operator == pb.OPERATOR_PREFIX:
            if not isinstance(value, str):
                raise _invalid_filter(f"{field}.value", "must be a string for OPERATOR_PREFIX")
            leaf = filters.Prefix(message.field, value, path)
        elif message.operator in _OPERATORS:
            operator = _OPERATORS[message.operator]
            leaf = filters.Comparison(message.field, operator, value, path)
        else:
            raise _invalid_filter(f"{field}.operator", "must be a known operator; none is set")
    try:
        filters.check(leaf)
    except InvalidInput as error:
        raise error.at(field) from None
    return leaf


def _scalar(value: struct_pb2.Value, field: str) -> filters.Scalar:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return value.string_value
    if kind == "bool_value":
        return value.bool_value
    if kind == "number_value":
        number = value.number_value
        # The message knows one kind of number; pixels and milliseconds are whole ones.
        return int(number) if number.is_integer() else number
    raise _invalid_filter(field, "must be a string, a number, true or false")


def _invalid_filter(field: str, problem: str) -> InvalidInput:
    return InvalidInput(field, problem, reason="INVALID_FILTER")


async def search_response(
    answers: Answers, page: Page, room: bounds.AnswerRoom
) -> pb.SearchResponse:
    """The answer to the one query, but for its page token and the time in all."""
    response = pb.SearchResponse(
        model=_model(answers.collection),
        text_truncated=page.truncated,
        timing=_timing(answers),
    )
    await _write_hits(response.hits, page.hits, room)
    return response


async def batch_response(answers: Answers, room: bounds.AnswerRoom) -> pb.BatchSearchResponse:
    """One result per query, in order, but for the time in all."""
    response = pb.BatchSearchResponse(model=_model(answers.collection), timing=_timing(answers))
    for outcome in answers.results:
        result = response.results.add()
        if isinstance(outcome, GlimpseError):
            result.error.CopyFrom(to_status(outcome))
            room.take(result)
        else:
            result.text_truncated = outcome.truncated
            result.hits.SetInParent()
            await _write_hits(result.hits.hits, outcome.hits, room)
    return response


async def images_response(
    present: Iterable[tuple[str, dict[str, Any]]], missing: Sequence[str], room: bounds.AnswerRoom
) -> pb.GetImagesResponse:
    """Images in the order asked, and the ids that are not there."""
    response = pb.GetImagesResponse(missing_ids=missing)
    room.take(response)
    async for identity, fields in paced(present):
        image = response.images.add(id=identity)
        _write_attributes(image.attributes, fields)
        room.take(image)
    return response


async def _write_hits(messages: Any, hits: Sequence[ScoredRow], room: bounds.AnswerRoom) -> None:
    """Writes into the answer itself: putting ready hits into it would copy them all in one turn."""
    async for hit in paced(hits):
        message = messages.add(id=hit.id, score=hit.score)
        _write_attributes(message.attributes, hit.fields)
        room.take(message)


def _write_attributes(message: pb.Attributes, fields: dict[str, Any]) -> None:
    """Attributes by name; those that are not in `fields` stay unset."""
    message.SetInParent()
    for name, value in fields.items():
        if name == "metadata":
            message.metadata.SetInParent()
            for key, item in value.items():
                _write_json(message.metadata.fields[key], item)
        elif name == "vector":
            # .tolist(): five times as fast as handing the array over.
            message.vector.values.extend(value.tolist())
        else:
            setattr(message, name, value)


def _write_json(message: struct_pb2.Value, value: Any) -> None:
    """As Struct.update does, in a fifth of its time for long lists."""
    if isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, (int, float)):
        message.number_value = value
    elif isinstance(value, str):
        message.string_value = value
    elif value is None:
        message.null_value = struct_pb2.NULL_VALUE
    elif isinstance(value, dict):
        message.struct_value.SetInParent()
        for key, item in value.items():
            _write_json(message.struct_value.fields[key], item)
    else:
        message.list_value.SetInParent()
        add = message.list_value.values.add
        for item in value:
            _write_json(add(), item)


def _model(collection: CollectionSpec) -> pb.Model:
    return pb.Model(name=collection.model_name, fingerprint=collection.model_fingerprint)


def _timing(answers: Answers) -> pb.Timing:
    timing = answers.timing
    return pb.Timing(
        queue_us=timing.queue_us, encode_us=timing.encode_us, search_us=timing.search_us
    )
