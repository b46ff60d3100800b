"""The attacks by name: every field with all that may hurt there, every method as a whole, and what
connections.py and batches.py add. Whether they hurt is run.py's to find out.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from random import Random

import grpc
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import code_pb2

from tests.hostile import sizes
from tests.hostile.contents import contents, few_contents
from tests.hostile.contracts import (
    Place,
    delimited,
    places,
    short_name,
    well_formed_messages,
)
from tests.robustness.messages import METHODS, Method

CALL_TIMEOUT_S = 5.0
"""After which an attacker gives a call up."""

Assault = Callable[[str, float], Counter[str]]
"""Attacks the service at an address for about so many seconds; what came back, by status. What is
within an answer counts as "item STATUS"."""

_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
_STATUS = "google.rpc.Status"
_UNKNOWN_FIELD = 15_000


@dataclass(frozen=True)
class Attack:
    """`prepare` takes as long as it likes, and comes before the neighbours' waits are measured."""

    name: str
    prepare: Callable[[Random], Assault]

    @property
    def service(self) -> str:
        return self.name.replace(":", ".").partition(".")[0]

    @property
    def is_of_calls(self) -> bool:
        """Whether it speaks gRPC: to what does not, gRPC itself says INTERNAL."""
        return "." in self.name.partition(":")[0]


@dataclass(frozen=True)
class Calls:
    """Calls of one method, one after the other, at least one; the n-th has the n-th messages."""

    method: Method
    messages: Callable[[int], list[bytes]]

    def __call__(self, address: str, seconds: float) -> Counter[str]:
        outcomes: Counter[str] = Counter()
        ends_s, number = time.monotonic() + seconds, 0
        with grpc.insecure_channel(address, options=_OPTIONS) as channel:
            call = channel.stream_stream(self.method.path)
            while not number or time.monotonic() < ends_s:
                answers = call(iter(self.messages(number)), timeout=CALL_TIMEOUT_S)
                try:
                    for content in answers:
                        outcomes.update(self._items(content))
                except grpc.RpcError:
                    pass
                outcomes[answers.code().name] += 1
                number += 1
        return outcomes

    def _items(self, content: bytes) -> Iterator[str]:
        """The statuses within an answer."""
        if _holds_status(self.method.response):
            message = GetMessageClass(self.method.response)()
            message.ParseFromString(content)
            yield from (f"item {code}" for code in _statuses(message))


def calls(name: str, method: Method, messages: Callable[[int], list[bytes]]) -> Attack:
    """An attack by calls whose messages differ from call to call."""
    return Attack(name, lambda _: Calls(method, messages))


def same_calls(name: str, method: Method, messages: Callable[[], list[bytes]]) -> Attack:
    """An attack by the same call again and again."""

    def prepare(_: Random) -> Assault:
        once = messages()
        return Calls(method, lambda _: once)

    return Attack(name, prepare)


def field_attacks(methods: Iterable[Method] = METHODS, *, full: bool = True) -> Iterator[Attack]:
    """Every field of every method's request, with all that may hurt there; unless `full`, only the
    first field of its name and type in a service, and the others with a few."""
    seen: set[tuple[object, ...]] = set()
    for place in places(methods):
        field = place.field
        kind = (place.method.service, field.name, field.type, field.message_type)
        for content in contents(place) if full or kind not in seen else few_contents(place):
            name = f"{place.name}:{content.name}"
            if content.is_new_each_call:
                yield calls(name, place.method, _each(place, content.make))
            else:
                yield same_calls(name, place.method, _first(place, content.make))
        seen.add(kind)


def method_attacks() -> Iterator[Attack]:
    """Every method: what is no request, what has more than was asked for, what is too large."""
    for method in METHODS:
        most = sizes.max_message_bytes(method.service)
        usual = b"".join(well_formed_messages(method)[:1])
        many = delimited(_UNKNOWN_FIELD, b"")
        for name, content in {
            "empty": lambda: b"",
            "ones@message": lambda most=most: b"\xff" * (most - 100),
            "zeros@message": lambda most=most: bytes(most - 100),
            "half-a-message": lambda usual=usual: usual[: len(usual) // 2] + b"\x0a\xff\xff",
            "large-unknown-field@message": lambda usual=usual, most=most: (
                usual + delimited(_UNKNOWN_FIELD, bytes(most - len(usual) - 100))
            ),
            "unknown-fields@message": lambda usual=usual, most=most, many=many: (
                usual + many * ((most - len(usual) - 100) // len(many))
            ),
            "nested-groups@message": lambda most=most: b"\x7b" * (most - 100),
            "zeros@past-message": lambda most=most: bytes(most + 1),
        }.items():
            yield same_calls(
                f"{short_name(method)}:{name}", method, lambda content=content: [content()]
            )
        yield same_calls(
            f"{short_name(method)}:well-formed",
            method,
            lambda method=method: well_formed_messages(method),
        )


def chosen(attacks: Iterable[Attack], patterns: Sequence[str]) -> list[Attack]:
    """Those whose name holds a pattern, or fits one with * and ?; all, where there is none."""
    return [
        attack
        for attack in attacks
        if not patterns or any(p in attack.name or fnmatchcase(attack.name, p) for p in patterns)
    ]


def one_of_each(attacks: Iterable[Attack]) -> list[Attack]:
    """Of each kind of content the first, whatever field it is put into; and of each method."""
    seen: set[str] = set()
    first = []
    for attack in attacks:
        target, _, content = attack.name.partition(":")
        kinds = {content, ".".join(target.split(".")[:2])}
        if not kinds <= seen:
            first.append(attack)
            seen |= kinds
    return first


def _each(place: Place, make: Callable[[int], object]) -> Callable[[int], list[bytes]]:
    return lambda call: place.messages(*make(call))


def _first(place: Place, make: Callable[[int], object]) -> Callable[[], list[bytes]]:
    return lambda: place.messages(*make(0))


def _holds_status(descriptor: Descriptor, seen: frozenset[str] = frozenset()) -> bool:
    """Whether a google.rpc.Status may be somewhere within."""
    if descriptor.full_name == _STATUS:
        return True
    seen |= {descriptor.full_name}
    inner = [field.message_type for field in descriptor.fields if field.message_type is not None]
    return any(each.full_name not in seen and _holds_status(each, seen) for each in inner)


def _statuses(message: Message) -> Iterator[str]:
    if message.DESCRIPTOR.full_name == _STATUS:
        yield code_pb2.Code.Name(message.code)
        return
    for field, value in message.ListFields():
        if field.message_type is not None and _holds_status(field.message_type):
            for each in value if field.is_repeated else (value,):
                yield from _statuses(each)
