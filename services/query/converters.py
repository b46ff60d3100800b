"""Messages into queries, conditions into filters; sizes are bounds.py's, answers answers.py's.

What may be long is done in turns, between which other calls go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from google.protobuf import struct_pb2

from glimpse.errors import GlimpseError, InvalidInput, as_value
from glimpse.query.v1 import query_pb2 as pb
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
from services.vectors import filters
from services.vectors.filters import AnyFilter

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
            bounds.check_query(message, prefix, request.options)
            queries.append(await query_of(message, max_image_bytes, prefix))
        except InvalidInput as error:
            queries.append(as_value(error))
    return queries


async def query_of(
    message: pb.SearchRequest | pb.BatchQuery, max_image_bytes: int, prefix: str = ""
) -> Query:
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
        return Query(
            field,
            tuple(
                [
                    _term(term, f"{field}.terms[{index}]", max_image_bytes)
                    async for index, term in paced(terms)
                ]
            ),
        )
    if kind == "image":
        await asyncio.sleep(0)  # it has been copied to be parsed, and is copied again
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
        content = message.image
        bounds.check_image(field, content, max_image_bytes)
        return PictureFile(field, content)
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
