"""An encoder for tests: the real contract on a real port; its vectors are hashes, not a model's."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry

from glimpse import errors
from glimpse.encoder.v1 import encoder_pb2 as pb
from glimpse.encoder.v1 import encoder_pb2_grpc
from glimpse.pictures.preprocess import Decoded, decode
from glimpse.pictures.preprocessing import PREPROCESSING_VERSION, Preprocessing
from glimpse.transport.status import to_status
from services.common.admission import Admission
from services.common.interceptors import CallInterceptor
from services.common.telemetry import RpcMetrics


def vector_of(content: bytes, dimension: int) -> npt.NDArray[np.float32]:
    """The unit vector, float32 [dimension], of `content`: equal bytes give equal vectors."""
    seed = int.from_bytes(hashlib.sha256(content).digest()[:8], "big")
    vector = np.random.default_rng(seed).standard_normal(dimension)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


class ThreadDecoder:
    """Decodes as DecodeWorkers do, on threads: tests that mean no harm start no processes."""

    async def decode(
        self, content: bytes, preprocessing: Preprocessing, caller: Hashable
    ) -> Decoded:
        return await asyncio.to_thread(decode, content, preprocessing, 50_000_000)


@contextlib.asynccontextmanager
async def serve(
    add: Callable[[Any, grpc.aio.Server], None],
    servicer: Any,
    port: int = 0,
    admission: Admission | None = None,
    host: str = "127.0.0.1",
) -> AsyncIterator[str]:
    """Serves any servicer on a loopback port, errors mapped as services do; yields the target.

    `add` is the generated `add_…Servicer_to_server`.
    """
    interceptor = CallInterceptor(RpcMetrics(CollectorRegistry()), admission=admission)
    limits = [
        ("grpc.max_receive_message_length", 64 * 2**20),
        ("grpc.max_send_message_length", 64 * 2**20),
    ]
    server = grpc.aio.server(
        interceptors=[interceptor], options=[("grpc.so_reuseport", 0), *limits]
    )
    add(servicer, server)
    port = server.add_insecure_port(f"{host}:{port}")
    await server.start()
    try:
        yield f"{host}:{port}"
    finally:
        await server.stop(None)


class FakeEncoder(encoder_pb2_grpc.EncoderServicer):
    """Serves Encoder on a loopback port and counts what it sees.

    A text's vector is `vector_of` its UTF-8 bytes, an image's that of its pixels, whether they came
    as pixels or as a file. Every attribute may be changed while it serves:

    - `fingerprint`, `dimension`, `model_name`: the model that it plays;
    - `failures`: that many of the next encoding calls fail with `failure`;
    - `open`: an event; encoding calls wait while it is cleared;
    - `items`: a Counter of "texts", "pixels", "files" and "calls";
    - `sizes_bytes`: those of the picture files that it was given;
    - `in_flight`, `max_in_flight`: encoding calls that run now, and the most that ran at once;
    - `times_left_s`: how long the caller of each encoding call waits, in seconds.

    Example::

        encoder = FakeEncoder()
        async with encoder.serve() as target:   # "127.0.0.1:PORT"
            ...
    """

    def __init__(self, dimension: int = 32, image_size: int = 16, max_images: int = 8) -> None:
        self.fingerprint = "f" * 64
        self.model_name = "fake"
        self.prompt_template = ""
        self.dimension = dimension
        self.image_size = image_size
        self.preprocessing_version = PREPROCESSING_VERSION
        self.resize = 0
        self.max_images = max_images
        self.max_texts = 64
        self.max_file_bytes = 2**20
        self.max_image_pixels = 1_000_000
        self.failures = 0
        self.failure: Exception = errors.Unavailable("the fake encoder fails on request")
        self.open = asyncio.Event()
        self.open.set()
        self.items: Counter[str] = Counter()
        self.sizes_bytes: list[int] = []
        self.priorities: set[int] = set()
        self.max_in_flight = 0
        self.in_flight = 0
        self.times_left_s: list[float] = []

    @contextlib.asynccontextmanager
    async def serve(self, port: int = 0, host: str = "127.0.0.1") -> AsyncIterator[str]:
        """Serves until the block ends; the value is the target, "HOST:PORT"."""
        add = encoder_pb2_grpc.add_EncoderServicer_to_server
        async with serve(add, self, port, host=host) as target:
            yield target

    async def GetModel(
        self, request: pb.GetModelRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetModelResponse:
        return pb.GetModelResponse(
            model=pb.Model(
                name=self.model_name,
                fingerprint=self.fingerprint,
                dimension=self.dimension,
                image_size=self.image_size,
                context_length=77,
                precision="fp32",
                device="cpu",
                prompt_template=self.prompt_template,
                preprocessing_version=self.preprocessing_version,
                resize=self.resize,  # type: ignore[arg-type]
            ),
            limits=pb.Limits(
                max_texts=self.max_texts,
                max_text_characters=1024,
                max_images=self.max_images,
                max_file_bytes=self.max_file_bytes,
                max_image_pixels=self.max_image_pixels,
                max_message_bytes=64 * 2**20,
            ),
        )

    async def EncodeTexts(
        self, request: pb.EncodeTextsRequest, context: grpc.aio.ServicerContext
    ) -> pb.EncodeTextsResponse:
        async with self._call(context):
            self.items["texts"] += len(request.texts)
            is_given = request.HasField("prompt_template")
            template = request.prompt_template if is_given else self.prompt_template
            results = [
                pb.TextResult(
                    embedding=self._embedding((template or "{}").replace("{}", text).encode()),
                    truncated=len(text.split()) > 75,
                )
                for text in request.texts
            ]
        return pb.EncodeTextsResponse(
            results=results,
            model_fingerprint=self.fingerprint,
            timing=_TIMING,
            prompt_template=template,
        )

    async def EncodeImages(
        self, request: pb.EncodeImagesRequest, context: grpc.aio.ServicerContext
    ) -> pb.EncodeImagesResponse:
        if not 1 <= len(request.images) <= self.max_images:
            raise errors.InvalidInput("images", f"must be 1 to {self.max_images} images")
        self.priorities.add(request.priority)
        async with self._call(context):
            results = [self._image_result(image) for image in request.images]
        return pb.EncodeImagesResponse(
            results=results, model_fingerprint=self.fingerprint, timing=_TIMING
        )

    def _image_result(self, image: pb.Image) -> pb.ImageResult:
        try:
            if image.WhichOneof("source") == "file":
                self.items["files"] += 1
                self.sizes_bytes.append(len(image.file))
                decoded = decode(image.file, Preprocessing(self.image_size), self.max_image_pixels)
                return pb.ImageResult(embedding=self._embedding(decoded.pixels.tobytes()))
            self.items["pixels"] += 1
            if len(image.pixels) != self.image_size**2 * 3:
                raise errors.InvalidImage(
                    "image", f"must be {self.image_size**2 * 3} bytes of pixels"
                )
            return pb.ImageResult(embedding=self._embedding(image.pixels))
        except errors.GlimpseError as error:
            return pb.ImageResult(error=to_status(error))

    def _embedding(self, content: bytes) -> pb.Embedding:
        return pb.Embedding(values=vector_of(content, self.dimension).tolist())

    @contextlib.asynccontextmanager
    async def _call(self, context: grpc.aio.ServicerContext) -> AsyncIterator[None]:
        self.items["calls"] += 1
        self.times_left_s.append(context.time_remaining() or math.inf)
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            await self.open.wait()
            if self.failures > 0:
                self.failures -= 1
                raise self.failure
            yield
        finally:
            self.in_flight -= 1


_TIMING = pb.Timing(queue_us=10, encode_us=20)
