"""What README.md shows of calls fits the contracts, also where the tools for it are missing."""

from __future__ import annotations

from google.protobuf import descriptor_pool, json_format, message_factory

from glimpse.query.v1 import query_pb2
from tests.readme import grpcurl_lines, python_blocks

POOL = descriptor_pool.Default()
assert query_pb2.DESCRIPTOR.name  # importing it is what fills the pool


def test_grpcurl_lines_name_methods_and_fields_that_there_are():
    lines = grpcurl_lines()
    for line in lines:
        match line.asked:
            case ["list"]:
                assert not line.request
            case ["list" | "describe", name]:
                assert POOL.FindFileContainingSymbol(name)
            case [path]:
                service, _, method = path.partition("/")
                described = POOL.FindServiceByName(service).FindMethodByName(method)
                request = message_factory.GetMessageClass(described.input_type)
                assert json_format.ParseDict(line.request, request()).ByteSize() > 0
            case _:
                raise AssertionError(line.words)
    assert len(lines) >= 3


def test_python_programs_compile():
    blocks = python_blocks()
    for block in blocks:
        compile(block, "README.md", "exec")
    assert blocks
