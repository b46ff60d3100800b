"""The encoder as query and indexer see it: arrays and errors; when to call is not its job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import numpy as np
import numpy.typing as npt

from glimpse.channel import open_aio_channel
from glimpse.credentials import PLAINTEXT, Credentials
from glimpse.encoder.v1 import encoder_pb2 as pb
from glimpse.encoder.v1 import encoder_pb2_grpc
from glimpse.tracing import calling
from services.common import errors
from services.common.interceptors import REQUEST_ID
from services.common.telemetry import request_id

if TYPE_CHECKING:
    Vector = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Model:
    """The encoder's model and limits, as GetModel gives them."""

    name: str
    fingerprint: str
    dimension: int
    image_size: int
    preprocessing_version: str
    max_texts: int
    max_images: int
    max_file_bytes: int
    max_image_pixels: int
    max_message_bytes: int


@dataclass(frozen=True)
class Embedded:
    """One item's outcome: either `vector` (float32 [dimension], unit) or `error` is set."""

    vector: Vector | None
    error: errors.GlimpseError | None
    truncated: bool = False


@dataclass(frozen=True)
class Batch:
    """The outcomes of a call, in the order of its items."""

    items: list[Embedded]
    model_fingerprint: str
    queue_us: int
    encode_us: int


class EncoderPeer:
    """One channel to the encoder. Every call raises a domain error of services.common.errors.

    The constructor raises UnusableCredentials of glimpse.errors.
    """

    def __init__(
        self, target: str, max_message_bytes: int, credentials: Credentials = PLAINTEXT
    ) -> None:
        # Back-off is the caller's decision here: a search fails fast, an ingest waits longer.
        self._channel = open_aio_channel(
            target, max_message_bytes, retry=False, credentials=credentials
        )
        self._stub = encoder_pb2_grpc.EncoderStub(self._channel)

    async def close(self) -> None:
        await self._channel.close()

    async def model(self, timeout_s: float) -> Model:
        """Asks for the model that is loaded now."""
        response = await self._call(self._stub.GetModel, pb.GetModelRequest(), timeout_s)
        model, limits = response.model, response.limits
        return Model(
            name=model.name,
            fingerprint=model.fingerprint,
            dimension=model.dimension,
            image_size=model.image_size,
            preprocessing_version=model.preprocessing_version,
            max_texts=limits.max_texts,
            max_images=limits.max_images,
            max_file_bytes=limits.max_file_bytes,
            max_image_pixels=limits.max_image_pixels,
            max_message_bytes=limits.max_message_bytes,
        )

    async def encode_texts(self, texts: Sequence[str], timeout_s: float) -> Batch:
        """Unit vectors of texts."""
        request = pb.EncodeTextsRequest(texts=texts)
        return _batch(await self._call(self._stub.EncodeTexts, request, timeout_s))

    async def encode_files(self, files: Sequence[bytes], timeout_s: float) -> Batch:
        """Unit vectors of picture files somebody waits for."""
        images = [pb.Image(file=file) for file in files]
        request = pb.EncodeImagesRequest(images=images, priority=pb.PRIORITY_INTERACTIVE)
        return _batch(await self._call(self._stub.EncodeImages, request, timeout_s))

    async def encode_pixels(
        self, pixels: Sequence[npt.NDArray[np.uint8]], timeout_s: float
    ) -> Batch:
        """Unit vectors of preprocessed images, each uint8 [S, S, 3], at indexing's priority."""
        images = [pb.Image(pixels=array.tobytes()) for array in pixels]
        request = pb.EncodeImagesRequest(images=images, priority=pb.PRIORITY_BULK)
        return _batch(await self._call(self._stub.EncodeImages, request, timeout_s))

    async def _call(self, method, request, timeout_s: float):  # noqa: ANN001, ANN202
        identity = request_id.get()
        metadata = ((REQUEST_ID, identity),) if identity else ()
        with calling(request) as trace:
            try:
                return await method(request, timeout=timeout_s, metadata=(*metadata, *trace))
            except grpc.aio.AioRpcError as error:
                raise _ours(errors.from_rpc_error(error, "encoder")) from error


def _ours(error: errors.GlimpseError) -> errors.GlimpseError:
    """What this service's callers are told: it is not their token that the encoder refuses."""
    if isinstance(error, errors.Unauthenticated | errors.PermissionDenied):
        return errors.Unavailable(
            f"the encoder does not let this service in: {error}", reason="ENCODER_REFUSES"
        )
    return error


def _batch(response: pb.EncodeTextsResponse | pb.EncodeImagesResponse) -> Batch:
    items = []
    for result in response.results:
        truncated = isinstance(result, pb.TextResult) and result.truncated
        if result.WhichOneof("result") == "embedding":
            vector = np.array(result.embedding.values, dtype=np.float32)
            items.append(Embedded(vector, None, truncated))
        else:
            items.append(Embedded(None, errors.from_status(result.error), truncated))
    timing = response.timing
    return Batch(items, response.model_fingerprint, timing.queue_us, timing.encode_us)
