"""Writes the tables of docs/operations.md that follow from the code: the services' settings.

python -m docs.generate
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from services.common.decode_settings import DecodeSettings
from services.common.peer_settings import PeerSettings
from services.common.settings import ServiceSettings
from services.encoder.settings import EncoderSettings
from services.indexer.settings import IndexerSettings
from services.query.settings import QuerySettings

OPERATIONS = Path(__file__).with_name("operations.md")

_BLOCK = re.compile(r"(<!-- begin: settings of (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_TABLES: dict[str, type[ServiceSettings]] = {
    "all": ServiceSettings,
    "peers": PeerSettings,
    "decoding": DecodeSettings,
    "encoder": EncoderSettings,
    "indexer": IndexerSettings,
    "query": QuerySettings,
}
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "length ≥"}


def settings_table(kind: type[ServiceSettings]) -> str:
    """The settings that a class adds to those of its bases or changes, as a table in Markdown."""
    rows = ["| setting | default | values | meaning |", "|---|---|---|---|"]
    for name in kind.__annotations__:
        field = kind.model_fields.get(name)
        if field is not None:
            cells = (
                f"`{kind.prefix() or '…_'}{name.upper()}`",
                _default(field),
                _values(field),
                str(field.description),
            )
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def with_tables(text: str) -> str:
    """The manual with its tables as the code has them now."""
    return _BLOCK.sub(lambda found: found[1] + settings_table(_TABLES[found[2]]) + found[3], text)


def _default(field: FieldInfo) -> str:
    default: Any = field.default
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    if field.is_required():
        return "the service's own"
    if default in ("", None):
        return "none"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _values(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(field.annotation))
    if field.annotation is bool:
        return "`true`, `false`"
    return ", ".join(_bounds(field.metadata))


def _bounds(metadata: Iterable[object]) -> Iterator[str]:
    for constraint in metadata:
        for name, sign in _BOUNDS.items():
            if (bound := getattr(constraint, name, None)) is not None:
                yield f"{sign} {bound:,}"
        if pattern := getattr(constraint, "pattern", None):
            yield f"`{pattern}`"


if __name__ == "__main__":
    OPERATIONS.write_text(with_tables(OPERATIONS.read_text()))
