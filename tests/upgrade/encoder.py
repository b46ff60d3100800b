"""`python -m tests.upgrade.encoder PORT MODEL LOG`: an encoder that can be killed; it writes down
how many pictures each call has."""

from __future__ import annotations

import asyncio
import sys
from typing import TextIO

from glimpse.encoder.v1 import encoder_pb2 as pb
from tests.upgrade.world import Model


async def _serve(port: int, name: str, calls: TextIO) -> None:
    model = Model(name)
    plain = model.EncodeImages

    async def encode(request, context):
        answer = await plain(request, context)
        if request.priority == pb.PRIORITY_BULK:  # a search's picture is nobody's copy
            print(len(request.images), file=calls, flush=True)
        return answer

    model.EncodeImages = encode
    async with model.serve(port):
        await asyncio.Event().wait()


if __name__ == "__main__":
    with open(sys.argv[3], "a") as file:
        asyncio.run(_serve(int(sys.argv[1]), sys.argv[2], file))
