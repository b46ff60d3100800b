"""How large a request and its answer may be; requests are checked before any other work on them.

What a message holds within these bounds, such as finite numbers or known names, is checked where it
is converted. Every function raises InvalidInput, which names the field and its bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from glimpse.errors import InvalidImage, InvalidInput
from services.common.text_bounds import MAX_TEMPLATE_CHARACTERS, MAX_TEXT_CHARACTERS
from services.vectors import bounds as store_bounds
from services.vectors import expressions, filters

if TYPE_CHECKING:
    from glimpse.query.v1 import query_pb2 as pb

MAX_TERMS = 16
MAX_QUERIES = 256
MAX_LIMIT = 1_000
DEFAULT_LIMIT = 10
MAX_BATCH_WINDOW = 65_536  # rows that one batch may make Milvus return
MAX_IDS = 1_000
MAX_OUTPUT_FIELDS = 64
MAX_PAGE_TOKEN_CHARACTERS = 288
MAX_CONDITIONS = expressions.MAX_COMPARISONS
MAX_CONDITION_DEPTH = 8
MAX_CONDITION_VALUES = expressions.MAX_LISTED_VALUES
# No message that becomes an expression of the length that Milvus gets has more.
MAX_CONDITION_BYTES = 4 * expressions.MAX_EXPRESSION_CHARACTERS
_INVALID_FILTER = "INVALID_FILTER"
_OUTPUT_FIELDS = "output_fields"


def check_search(request: pb.SearchRequest) -> None:
    """All of a SearchRequest but its pictures."""
    check_collection(request.collection)
    _check_options(request.options)
    if len(request.page_token) > MAX_PAGE_TOKEN_CHARACTERS:
        raise InvalidInput(
            "page_token",
            f"is not a token of this service: those have at most {MAX_PAGE_TOKEN_CHARACTERS} "
            "characters",
            reason="PAGE_TOKEN_INVALID",
        )
    check_query(request, "", request.options)


def check_batch(request: pb.BatchSearchRequest) -> None:
    """What all queries of a BatchSearchRequest share; each has check_query, and fails alone."""
    check_collection(request.collection)
    count, options = len(request.queries), request.options
    if not 1 <= count <= MAX_QUERIES:
        raise InvalidInput("queries", f"must be 1 to {MAX_QUERIES} queries, not {count}")
    limit = options.limit if options.HasField("limit") else DEFAULT_LIMIT
    check_page(limit, options.offset)
    window = count * (options.offset + limit)
    if window > MAX_BATCH_WINDOW:
        raise InvalidInput(
            "options.limit",
            f"queries x (offset + limit) must be at most {MAX_BATCH_WINDOW}, not {window}",
        )
    _check_options(options)


def check_get(request: pb.GetImagesRequest) -> None:
    """All of a GetImagesRequest."""
    check_collection(request.collection)
    if not 1 <= len(request.ids) <= MAX_IDS:
        raise InvalidInput("ids", f"must be 1 to {MAX_IDS} ids, not {len(request.ids)}")
    _check_count(_OUTPUT_FIELDS, request.output_fields, MAX_OUTPUT_FIELDS)
    for index, identity in enumerate(request.ids):
        store_bounds.check_id(identity, f"ids[{index}]")


def check_page(limit: int, offset: int) -> None:
    """The place of a page among the hits."""
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput("options.limit", f"must be 1 to {MAX_LIMIT}, not {limit}")
    if offset < 0:
        raise InvalidInput("options.offset", f"must be 0 or more, not {offset}")
    if offset + limit > store_bounds.MAX_WINDOW:
        raise InvalidInput(
            "options.offset",
            f"plus limit must be at most {store_bounds.MAX_WINDOW}, not {offset + limit}",
        )


def check_query(
    message: pb.SearchRequest | pb.BatchQuery,
    prefix: str,
    options: pb.SearchOptions,
) -> None:
    """The query of a request or of a batch's item (`prefix` "queries[i]."), but its pictures."""
    if message.WhichOneof("query") != "weighted_sum":
        _check_part(message, prefix, options)
        return
    field, terms = f"{prefix}weighted_sum.terms", message.weighted_sum.terms
    if not 1 <= len(terms) <= MAX_TERMS:
        raise InvalidInput(field, f"must be 1 to {MAX_TERMS} terms, not {len(terms)}")
    for index, term in enumerate(terms):
        _check_part(term, f"{field}[{index}].", options)


def check_image(field: str, content: bytes, max_bytes: int) -> None:
    """A picture file. Apart from the rest: protobuf copies it whenever it is asked for."""
    if len(content) > max_bytes:
        raise InvalidImage(
            field,
            f"has {len(content)} bytes; at most {max_bytes} are taken",
            reason="IMAGE_TOO_LARGE",
        )


class AnswerRoom:
    """The bytes that are left in an answer; `field` is what the caller would have to lower."""

    _ENVELOPE_BYTES = 4_096  # model, timing, page token

    def __init__(self, max_bytes: int, field: str) -> None:
        self._max_bytes = max_bytes
        self._left_bytes = max_bytes - self._ENVELOPE_BYTES
        self._field = field

    def take(self, size_bytes: int) -> None:
        """Takes the room of what is written; raises InvalidInput if there is too little.

        So that no answer is made far beyond what can be sent.
        """
        self._left_bytes -= size_bytes
        if self._left_bytes < 0:
            raise InvalidInput(
                self._field,
                f"the answer would take more than the {self._max_bytes} bytes that a message "
                "holds: request fewer hits or fields",
                reason="ANSWER_TOO_LARGE",
            )


def _check_part(
    message: pb.SearchRequest | pb.BatchQuery | pb.Term,
    prefix: str,
    options: pb.SearchOptions,
) -> None:
    kind = message.WhichOneof("query")
    field = f"{prefix}{kind}"
    if kind == "text":
        _check_text(field, len(message.text), len(options.prompt_template))
    elif kind == "image_id":
        store_bounds.check_id(message.image_id, field)
    elif kind == "vector":
        _check_count(f"{field}.values", message.vector.values, store_bounds.MAX_DIMENSION)


def _check_text(field: str, characters: int, template_characters: int) -> None:
    """Of the text, and of the prompt, in which the text takes the place of the template's {}."""
    prompt_characters = characters + max(0, template_characters - len("{}"))
    if prompt_characters > MAX_TEXT_CHARACTERS:
        around = " with options.prompt_template around it" if template_characters else ""
        raise InvalidInput(
            field,
            f"has {prompt_characters} characters{around}; "
            f"at most {MAX_TEXT_CHARACTERS} are allowed",
            reason="TEXT_TOO_LONG",
        )


def _check_options(options: pb.SearchOptions) -> None:
    _check_count(f"options.{_OUTPUT_FIELDS}", options.output_fields, MAX_OUTPUT_FIELDS)
    if len(options.prompt_template) > MAX_TEMPLATE_CHARACTERS:
        raise InvalidInput(
            "options.prompt_template",
            f"has {len(options.prompt_template)} characters; "
            f"at most {MAX_TEMPLATE_CHARACTERS} are taken",
            reason="TEXT_TOO_LONG",
        )
    where = options.WhichOneof("where")
    if where == "condition":
        _check_condition(options.condition, "options.condition")
    elif where == "filter":
        _check_filter(options.filter, "options.filter")


def _check_filter(expression: str, field: str) -> None:
    if len(expression) > expressions.MAX_FILTER_CHARACTERS:
        most = expressions.MAX_FILTER_CHARACTERS
        raise _invalid_filter(field, f"has {len(expression)} characters; at most {most} are taken")
    try:
        expressions.check(expression)
    except InvalidInput as error:
        raise error.at(field) from None


def _check_condition(root: pb.Condition, field: str) -> None:
    """Counts before it measures, as measuring takes longer the more there are."""
    conditions = values = 0
    waiting = [(root, field, 1)]
    while waiting:
        message, at, depth = waiting.pop()
        conditions += 1
        if depth > MAX_CONDITION_DEPTH:
            raise _invalid_filter(at, f"is more than {MAX_CONDITION_DEPTH} levels deep")
        _check_conditions(at, conditions)
        kind = message.WhichOneof("kind")
        at = f"{at}.{kind}"
        if kind == "comparison":
            comparison = message.comparison
            _check_count(f"{at}.path", comparison.path, filters.MAX_DEPTH, _INVALID_FILTER)
            listed = comparison.value.list_value.values
            _check_count(f"{at}.value", listed, filters.MAX_VALUES, _INVALID_FILTER)
            values += len(listed)
            if comparison.path:  # Milvus compares metadata with one value at a time
                conditions += max(0, len(listed) - 1)
                _check_conditions(at, conditions)
            if values > MAX_CONDITION_VALUES:
                raise _invalid_filter(
                    field, f"compares with more than {MAX_CONDITION_VALUES} values in all"
                )
        elif kind == "negation":
            waiting.append((message.negation, at, depth + 1))
        elif kind:
            children = (message.all_of if kind == "all_of" else message.any_of).conditions
            room = MAX_CONDITIONS - conditions + 1  # with one that is too many
            waiting += [
                (child, f"{at}.conditions[{index}]", depth + 1)
                for index, child in enumerate(children[:room])
            ][::-1]
    if root.ByteSize() > MAX_CONDITION_BYTES:
        raise _invalid_filter(
            field, f"has {root.ByteSize()} bytes; at most {MAX_CONDITION_BYTES} are taken"
        )


def _check_conditions(field: str, count: int) -> None:
    if count > MAX_CONDITIONS:
        raise _invalid_filter(
            field,
            f"exceeds the limit of {MAX_CONDITIONS} conditions, each value that metadata is "
            "compared with among them",
        )


def check_collection(name: str) -> None:
    """The name of a collection, or of one of its generations."""
    store_bounds.check_address(name[:272])  # more than fit: the error repeats the name


def _check_count(
    field: str, items: Sequence[object], max_count: int, reason: str | None = None
) -> None:
    if len(items) > max_count:
        problem = f"has {len(items)} values; at most {max_count} are taken"
        raise InvalidInput(field, problem, reason=reason)


def _invalid_filter(field: str, problem: str) -> InvalidInput:
    return InvalidInput(field, problem, reason=_INVALID_FILTER)
