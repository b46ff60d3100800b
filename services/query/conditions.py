"""A request's condition, text or tree, as the store's filter; its meaning is the store's job."""

from __future__ import annotations

from google.protobuf import struct_pb2

from glimpse.errors import InvalidInput
from glimpse.query.v1 import query_pb2 as pb
from services.vectors import filters
from services.vectors.store import AnyFilter

MAX_FILTER_CHARACTERS = filters.MAX_FILTER_CHARACTERS
MAX_DEPTH = 8
MAX_CONDITIONS = 256
_REASON = "INVALID_FILTER"

_OPERATORS: dict[int, filters.Operator] = {
    pb.OPERATOR_EQUAL: "==",
    pb.OPERATOR_NOT_EQUAL: "!=",
    pb.OPERATOR_LESS: "<",
    pb.OPERATOR_LESS_OR_EQUAL: "<=",
    pb.OPERATOR_GREATER: ">",
    pb.OPERATOR_GREATER_OR_EQUAL: ">=",
}


def filter_of(options: pb.SearchOptions) -> AnyFilter:
    """The filter of the options, "" for none; raises InvalidInput, naming the condition."""
    if options.WhichOneof("where") == "condition":
        return _Reader().read(options.condition, "options.condition", 1)
    if len(options.filter) > MAX_FILTER_CHARACTERS:
        raise InvalidInput(
            "options.filter",
            f"has {len(options.filter)} characters; at most {MAX_FILTER_CHARACTERS} are taken",
            reason=_REASON,
        )
    return options.filter


class _Reader:
    """Reads one tree and counts its conditions."""

    def __init__(self) -> None:
        self._conditions = 0

    def read(self, message: pb.Condition, field: str, depth: int) -> filters.Filter:
        self._conditions += 1
        if depth > MAX_DEPTH:
            raise _invalid(field, f"is more than {MAX_DEPTH} levels deep")
        if self._conditions > MAX_CONDITIONS:
            raise _invalid(
                field, f"is one more than the {MAX_CONDITIONS} conditions that are taken"
            )
        kind = message.WhichOneof("kind")
        if kind is None:
            raise _invalid(
                field, "must be one of comparison, all_of, any_of, negation; none is set"
            )
        field = f"{field}.{kind}"
        if kind == "comparison":
            return _comparison(message.comparison, field)
        if kind == "negation":
            return filters.Not(self.read(message.negation, field, depth + 1))
        children = message.all_of if kind == "all_of" else message.any_of
        if not children.conditions:
            raise _invalid(f"{field}.conditions", "must be 1 or more")
        terms = tuple(
            self.read(child, f"{field}.conditions[{index}]", depth + 1)
            for index, child in enumerate(children.conditions)
        )
        return filters.And(terms) if kind == "all_of" else filters.Or(terms)


def _comparison(message: pb.Comparison, field: str) -> filters.Filter:
    path = tuple(message.path)
    if message.operator == pb.OPERATOR_IN:
        if message.value.WhichOneof("kind") != "list_value":
            raise _invalid(f"{field}.value", "must be a list for OPERATOR_IN")
        values = tuple(
            _scalar(value, f"{field}.value[{index}]")
            for index, value in enumerate(message.value.list_value.values)
        )
        leaf: filters.Filter = filters.AnyOf(message.field, values, path)
    else:
        value = _scalar(message.value, f"{field}.value")
        if message.operator == pb.OPERATOR_PREFIX:
            if not isinstance(value, str):
                raise _invalid(f"{field}.value", "must be a string for OPERATOR_PREFIX")
            leaf = filters.Prefix(message.field, value, path)
        elif message.operator in _OPERATORS:
            operator = _OPERATORS[message.operator]
            leaf = filters.Comparison(message.field, operator, value, path)
        else:
            raise _invalid(f"{field}.operator", "must be a known operator; none is set")
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
    raise _invalid(field, "must be a string, a number, true or false")


def _invalid(field: str, message: str) -> InvalidInput:
    return InvalidInput(field, message, reason=_REASON)
