"""What errors call an argument of the client or a field of a call, in the command line's words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

# What a message begins with, as "options.limit: must be"; and certificates' files anywhere in it.
_NAMES = re.compile(r"^[\w.\[\]]+(?=: )|\btls_\w+")


def with_options(message: str, parameters: Iterable[Any]) -> str:
    """`message` with a command's option, or argument, in place of each name that it stands for: it
    is that of the parameter of the command's function, or of the field's last part."""
    known = {parameter.name: _as_typed(parameter) for parameter in parameters}

    def typed(found: re.Match[str]) -> str:
        name = found[0].rpartition(".")[2].partition("[")[0]
        return known.get(name, found[0])

    return _NAMES.sub(typed, message)


def _as_typed(parameter: Any) -> str:
    """An option by its longest name; an argument as the command's help calls it."""
    if parameter.param_type_name == "option":
        return max(parameter.opts, key=len)
    return parameter.metavar or parameter.name.upper()
