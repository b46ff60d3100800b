"""Arguments of a wrong type are refused by name, by whatever a function's annotations say; whether
a value of the right type will do is the services' to judge."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import itertools
import numbers
import types
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Test = Callable[[Any], bool]

_NUMBERS = {int: numbers.Integral, float: numbers.Real}
"""What counts as one, numpy's numbers among them; True and False do not."""


def checked(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """`function`, which first raises TypeError for an argument that is not as annotated."""
    names = tuple(inspect.signature(function).parameters)

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        tests = _tests(function)
        for name, value in itertools.chain(zip(names, args, strict=False), kwargs.items()):
            _check(function, tests, name, value)
        return function(*args, **kwargs)

    return call


def check_fields(record: Any) -> None:
    """Raises TypeError for a field of a dataclass that is not as annotated."""
    kind = type(record)
    tests = _tests(kind)
    for name in kind.__dataclass_fields__:
        _check(kind, tests, name, getattr(record, name))


def _check(owner: Any, tests: dict[str, Test], name: str, value: object) -> None:
    if name in tests and not tests[name](value):
        wanted = inspect.get_annotations(owner)[name]
        raise TypeError(f"{name}: must be {wanted}, not {_words(value)}")


@functools.cache  # made when first needed: evaluating annotations takes a while
def _tests(owner: Any) -> dict[str, Test]:
    """Whether a value is as annotated, by a function's arguments or a class' fields."""
    return {name: _test(hint) for name, hint in get_type_hints(owner).items()}


def _test(hint: Any) -> Test:
    kind = get_origin(hint) or hint
    if kind in (Union, types.UnionType):
        tests = [_test(each) for each in get_args(hint)]
        return lambda value: any(test(value) for test in tests)
    if kind is collections.abc.Sequence:
        return _list_test(*get_args(hint))
    if kind in _NUMBERS:
        number = _NUMBERS[kind]
        return lambda value: isinstance(value, number) and not isinstance(value, bool)
    if kind is Any:
        return lambda value: True
    return lambda value: isinstance(value, kind)


def _list_test(item: Any) -> Test:
    if item is float:  # may be thousands; who converts them refuses those that are none
        return _is_list
    test = _test(item)
    return lambda value: _is_list(value) and all(map(test, value))


def _is_list(value: object) -> bool:
    """Whether it has items in an order, as numpy's arrays have, too; texts are no lists here."""
    has_items = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    return has_items and not isinstance(value, str | bytes | collections.abc.Mapping)


def _words(value: Any) -> str:
    if _is_list(value):
        kinds = sorted({type(item).__name__ for item in value})
        return f"{type(value).__name__} of {', '.join(kinds)}" if kinds else type(value).__name__
    return type(value).__name__
