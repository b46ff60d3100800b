"""An encoder that computes nothing, as a process, for measuring what stands around it.

`python -m benchmarks.stub_encoder PORT IMAGE_SIZE` serves the encoder's contract; a picture's
vector is looked up by its checksum, so that it costs next to nothing.
"""

from __future__ import annotations

import asyncio
import sys
import zlib

import numpy as np
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from glimpse.encoder.v1 import encoder_pb2 as pb
from glimpse.encoder.v1 import encoder_pb2_grpc
from tests.fakes import FakeEncoder, serve

_DIMENSION = 512
_VECTORS = 1024
_MAX_IMAGES = 64


class StubEncoder(FakeEncoder):
    """The tests' encoder with its vectors made beforehand."""

    def __init__(self, image_size: int) -> None:
        super().__init__(_DIMENSION, image_size, _MAX_IMAGES)
        vectors = np.random.default_rng(0).standard_normal((_VECTORS, _DIMENSION))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        self._embeddings = [pb.Embedding(values=vector.tolist()) for vector in vectors]

    def _embedding(self, content: bytes) -> pb.Embedding:
        return self._embeddings[zlib.crc32(content) % _VECTORS]


async def _serve(port: int, image_size: int) -> None:
    def add(servicer: StubEncoder, server: object) -> None:
        encoder_pb2_grpc.add_EncoderServicer_to_server(servicer, server)
        checks = health.aio.HealthServicer()  # pyright: ignore[reportAttributeAccessIssue]
        health_pb2_grpc.add_HealthServicer_to_server(checks, server)
        tasks.append(asyncio.ensure_future(checks.set("", health_pb2.HealthCheckResponse.SERVING)))

    tasks: list[asyncio.Future[None]] = []
    async with serve(add, StubEncoder(image_size), port):
        await asyncio.gather(*tasks)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
