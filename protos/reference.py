"""Generates docs/api.md from the compiled contracts and their comments.

python -m protos.reference build/protos.binpb > docs/api.md
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

# ruff: noqa: E501 (the table of the introduction)
_INTRODUCTION = """\
# The contracts

`make api-docs` generates this page from [protos/](../protos/glimpse); change the comments there.

In proto3, an unset field is zero, false or empty; comments explain what this means where it is not obvious.
Messages without a package belong to the same contract.

## Errors of every call

Failed calls carry `google.rpc.ErrorInfo` with the domain `glimpse` and a `reason` to switch on.

| status | reason | when |
|---|---|---|
| INVALID_ARGUMENT | INVALID_INPUT, or one the call names | a field violates its bounds: `google.rpc.BadRequest` |
| UNAUTHENTICATED | TOKEN_MISSING, TOKEN_MALFORMED, TOKEN_UNKNOWN | the service requires tokens |
| PERMISSION_DENIED | SCOPE_MISSING | the token does not allow this call |
| RESOURCE_EXHAUSTED | OVERLOADED, CALLER_LIMIT | its answer would be late, or too many are in progress; see RetryInfo |
| RESOURCE_EXHAUSTED | none | the message is larger than the service's limit |
| UNAVAILABLE | UNAVAILABLE, or one that the service names | retry after `google.rpc.RetryInfo` |
| DEADLINE_EXCEEDED | DEADLINE_EXCEEDED | the deadline has passed; the service's own if the caller set none |
| INTERNAL | INTERNAL | a bug in glimpse; the service's log has details |

Clients retry UNAVAILABLE; every unary call can be repeated safely.
"""

_WIDTH = 120  # of a line of docs
_FIELD = FieldDescriptorProto
_LABELS = {_FIELD.LABEL_REPEATED: "repeated "}
# Numbers of the fields of FileDescriptorProto and below, which make up the paths of comments.
_MESSAGE, _ENUM, _SERVICE = 4, 5, 6
_MEMBER = 2  # of a message its fields, of an enum its values, of a service its methods
_ONEOF = 8

Comments = dict[tuple[int, ...], str]


def reference(contracts: FileDescriptorSet) -> str:
    """The whole page, in Markdown."""
    files = [file for file in contracts.file if file.package.startswith("glimpse.")]
    files.sort(key=lambda file: ("query", "indexer", "encoder").index(file.package.split(".")[1]))
    return "\n".join([_INTRODUCTION, *(line for file in files for line in _file(file))])


def _file(file: FileDescriptorProto) -> Iterator[str]:
    comments = {
        tuple(location.path): location.leading_comments.strip()
        for location in file.source_code_info.location
        if location.leading_comments
    }
    yield f"## {file.package}\n"
    yield f"[{file.name}](../protos/{file.name})\n"
    for number, service in enumerate(file.service):
        yield from _service(service, comments, (_SERVICE, number), file.package)
    for number, message in enumerate(file.message_type):
        yield from _message(message, comments, (_MESSAGE, number), file.package)
    for number, enum in enumerate(file.enum_type):
        yield from _enum(enum, comments, (_ENUM, number), file.package)


def _service(
    service: ServiceDescriptorProto, comments: Comments, path: tuple[int, ...], package: str
) -> Iterator[str]:
    yield f"### service {service.name}\n\n{_text(comments[path])}\n"
    for number, method in enumerate(service.method):
        takes = _link(method.input_type, package)
        gives = _link(method.output_type, package)
        takes = f"stream of {takes}" if method.client_streaming else takes
        gives = f"stream of {gives}" if method.server_streaming else gives
        yield f"#### {service.name}.{method.name}\n\n{takes}\n→ {gives}\n"
        yield f"{_text(comments[(*path, _MEMBER, number)])}\n"


def _message(
    message: DescriptorProto, comments: Comments, path: tuple[int, ...], package: str
) -> Iterator[str]:
    yield f"{_heading(package, message.name)}\n\n{_text(comments[path])}\n"
    if not message.field:
        return
    told: set[int] = set()
    for number, field in enumerate(message.field):
        group = field.oneof_index
        in_group = field.HasField("oneof_index") and not field.proto3_optional
        if in_group and group not in told:
            told.add(group)
            name = message.oneof_decl[group].name
            yield _item(f"one of *{name}*", comments[(*path, _ONEOF, group)])
        name = f"**{field.name}**, {_type(field, package)}"
        yield _item(name, comments[(*path, _MEMBER, number)], level=1 if in_group else 0)
    yield ""


def _enum(
    enum: EnumDescriptorProto, comments: Comments, path: tuple[int, ...], package: str
) -> Iterator[str]:
    yield f"{_heading(package, enum.name)}\n\n{_text(comments[path])}\n"
    for number, value in enumerate(enum.value):
        yield _item(f"**{value.name}** = {value.number}", comments[(*path, _MEMBER, number)])
    yield ""


def _type(field: FieldDescriptorProto, package: str) -> str:
    label = "optional " if field.proto3_optional else _LABELS.get(field.label, "")
    if field.type_name:
        return label + _link(field.type_name, package)
    return label + _FIELD.Type.Name(field.type).removeprefix("TYPE_").lower()


def _heading(package: str, name: str) -> str:
    return f'### <a id="{_anchor(package, name)}"></a>{name}'


def _link(type_name: str, package: str) -> str:
    """A type as a link to its place on the page; types of others stand for themselves."""
    owner, _, name = type_name.removeprefix(".").rpartition(".")
    return f"[{name}](#{_anchor(package, name)})" if owner == package else f"{owner}.{name}"


def _anchor(package: str, name: str) -> str:
    return f"{package}.{name}".lower()


def _text(comment: str) -> str:
    """A comment as paragraphs."""
    lines = [_escaped(line.strip()) for line in comment.splitlines()]
    return "\n".join(lines)


def _item(name: str, comment: str, level: int = 0) -> str:
    """An entry of a list: a name, and what is said of it."""
    words = f"- {name}: {' '.join(_text(comment).split())}"
    margin = "  " * level
    return textwrap.fill(
        words,
        _WIDTH,
        initial_indent=margin,
        subsequent_indent=f"{margin}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _escaped(line: str) -> str:
    return line.replace("*", "\\*").replace("<", "&lt;")


def main() -> None:
    """Prints the page of the compiled contracts that the command line names."""
    contracts = FileDescriptorSet.FromString(Path(sys.argv[1]).read_bytes())
    print(reference(contracts), end="")


if __name__ == "__main__":
    main()
