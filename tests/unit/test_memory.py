"""What a process has freed goes back to the system."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import grpc
import pytest

from services.common import codec, memory

# Blocks of megabytes, as of messages, that threads take and free, all but their first: free memory
# at the end of each thread's heap, if it has one. Prints the growth that is left, in MiB.
GROWTH = """
import resource, sys, threading
from services.common import memory
memory.share_heap()

def resident_mib():
    with open("/proc/self/statm") as sizes:
        return int(sizes.read().split()[1]) * resource.getpagesize() / 2**20

def work():
    blocks = [b"\\x01" * 3_000_000 for _ in range(20)]
    last.append(blocks.pop(0))

last, before_mib = [], resident_mib()
for _ in range(4):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
memory.give_back()
print(resident_mib() - before_mib)
"""


def test_memory_is_kept_while_large_blocks_are_used():
    reuse = memory.Reuse()
    assert reuse.is_over(time.monotonic())
    reuse.note()
    noted_s = time.monotonic()
    assert not reuse.is_over(noted_s + 9)
    assert reuse.is_over(noted_s + 11)


async def test_a_large_message_counts_as_a_large_block(monkeypatch):
    used = memory.Reuse()
    monkeypatch.setattr(codec, "HEAP", used)
    handler = grpc.unary_unary_rpc_method_handler(None, request_deserializer=len)
    parse = codec.parser_of(handler, "/glimpse.test.Test/Test")
    assert await parse(bytes(2**20)) == 2**20
    assert used.is_over(time.monotonic())
    assert await parse(bytes(2**20 + 1)) == 2**20 + 1
    assert not used.is_over(time.monotonic())


@pytest.mark.skipif(not hasattr(os, "confstr") or sys.platform != "linux", reason="glibc's matter")
def test_what_threads_have_freed_is_given_back():
    run = subprocess.run(
        [sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True, timeout=60
    )
    assert float(run.stdout) < 40  # of 228 that were freed; 11 are in use
