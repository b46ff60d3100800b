"""What is wrong with a setting's value, in our words: pydantic speaks of inputs and strings to
people who have set a variable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WORDS = {
    "bool_parsing": "must be true or false",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "string_pattern_mismatch": "must match {pattern}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "missing": "must be set",
}


def words(problem: Mapping[str, Any]) -> str:
    """What one of a ValidationError's errors() says; a validator of ours has said it itself."""
    if template := _WORDS.get(problem["type"]):
        return template.format_map(problem.get("ctx", {}))
    return problem["msg"].removeprefix("Value error, ")
