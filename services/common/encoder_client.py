"""The encoder as query and indexer see it: arrays and errors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message

from glimpse import errors
from glimpse.encoder.v1 import encoder_pb2 as pb
from glimpse.encoder.v1 import encoder_pb2_grpc
from glimpse.pictures.preprocessing import PREPROCESSING_VERSION, Preprocessing
from glimpse.transport.channel import open_aio_channel
from glimpse.transport.credentials import PLAINTEXT, Credentials
from glimpse.transport.diagnosis import Diagnosis
from glimpse.transport.status import REQUEST_ID, from_rpc_error, from_status
from glimpse.transport.tracing import calling
from services.common import embeddings, raw_messages
from services.common.deadline import Deadline
from services.common.telemetry import request_id

if TYPE_CHECKING:
    Vector = npt.NDArray[np.float32]

_PEER = "the encoder"
_ENCODE_IMAGES = "/glimpse.encoder.v1.Encoder/EncodeImages"
_MAX_LOST_S = 2.0
_LOOK_S = 2.0
# Calls go to all replicas in turn, but other calls take turns, too: of two, one that loads may come
# several times.
_MAX_PASSED_OVER = 3
_MAX_CALL_S = 600.0  # what calls on an old channel get to end: far more than any takes
# It is near, and who waits for a connection to an address that swallows it waits for this long.
_MAX_CONNECT_S = 1.0


@dataclass(frozen=True)
class EncoderModel:
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
    resize: int = 0  # numbers of the contract's enums
    interpolation: int = 0

    @property
    def preprocessing(self) -> Preprocessing:
        """How it sees pictures. Raises ModelMismatch where this release cannot make its pixels."""
        try:
            return Preprocessing.numbered(
                self.preprocessing_version, self.image_size, self.resize, self.interpolation
            )
        except ValueError as error:
            raise errors.ModelMismatch(
                f"the encoder's model {self.name!r} ({self.fingerprint}) sees pictures by "
                f"preprocessing that this service does not know ({error}; here version "
                f"{PREPROCESSING_VERSION}): run both in the same release",
                reason="PREPROCESSING_UNKNOWN",
            ) from None


@dataclass(frozen=True)
class Embedded:
    """One item's outcome: either `vector` (float32 [dimension], unit) or `error` is set."""

    vector: Vector | None
    error: errors.GlimpseError | None
    truncated: bool = False
    prompt_template: str = ""  # what a text was put into


@dataclass(frozen=True)
class EncodedBatch:
    """The outcomes of a call, in the order of its items."""

    items: list[Embedded]
    model_fingerprint: str
    queue_us: int
    encode_us: int


class EncoderClient:
    """One channel to the encoder. Every call raises a domain error of glimpse.errors.

    While a name has no address, as that of a pod that is being replaced, gRPC asks for one ever
    more rarely, every two minutes in the end. So where nothing but UNAVAILABLE came back for
    `_MAX_LOST_S`, a new channel, which asks at once, is tried beside the old one, and takes its
    place when it is answered: calls do not wait for that, they go on failing at once. Owned by the
    event loop of its first call. The constructor raises UnusableCredentials of glimpse.errors.
    """

    def __init__(
        self, target: str, max_message_bytes: int, credentials: Credentials = PLAINTEXT
    ) -> None:
        # Back-off is the caller's decision here: a search fails fast, an ingest waits longer.
        self._open = partial(
            open_aio_channel,
            target,
            max_message_bytes,
            retry=False,
            credentials=credentials,
            max_connect_s=_MAX_CONNECT_S,
        )
        self._diagnosis = Diagnosis(_PEER, target, credentials)
        self._channel = self._open()
        self._stub = _stub(self._channel)
        self._lost_at_s: float | None = None
        self._looking: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        for closing in self._closing:
            closing.cancel()
        await asyncio.gather(self._channel.close(), *self._closing, return_exceptions=True)

    async def _call_one_that_serves(self, method: str, request: Message, deadline: Deadline) -> Any:
        """As _call; a replica that loads or stops is passed over, for others may serve."""
        for _ in range(_MAX_PASSED_OVER):
            try:
                return await self._call(method, request, deadline)
            except errors.Unavailable as error:
                if error.reason not in ("LOADING", "STOPPING"):
                    raise
        return await self._call(method, request, deadline)

    async def model(self, deadline: Deadline, explained: bool = True) -> EncoderModel:
        """Asks for the model that is loaded now; a failure that is to be explained may take a
        second longer, for a look at why the encoder is away."""
        request = pb.GetModelRequest()
        response = await self._call("GetModel", request, deadline, explained=explained)
        model, limits = response.model, response.limits
        return EncoderModel(
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
            resize=model.resize,
            interpolation=model.interpolation,
        )

    async def encode_texts(
        self, texts: Sequence[str], deadline: Deadline, as_they_are: bool = False
    ) -> EncodedBatch:
        """Unit vectors of texts, which are put into the model's own template unless told not to."""
        request = pb.EncodeTextsRequest(texts=texts)
        if as_they_are:
            request.prompt_template = ""  # set, and empty
        return _batch(await self._call_one_that_serves("EncodeTexts", request, deadline))

    async def encode_files(self, files: Sequence[bytes], deadline: Deadline) -> EncodedBatch:
        """Unit vectors of picture files somebody waits for."""
        request = pb.EncodeImagesRequest(priority=pb.PRIORITY_INTERACTIVE)
        return await self._encode_images(pb.Image.FILE_FIELD_NUMBER, files, request, deadline)

    async def encode_pixels(
        self,
        pixels: Sequence[npt.NDArray[np.uint8]],
        deadline: Deadline,
        interactive: bool = False,
    ) -> EncodedBatch:
        """Unit vectors of preprocessed images, each uint8 [S, S, 3], at indexing's priority unless
        they are `interactive`: somebody waits for them."""
        priority = pb.PRIORITY_INTERACTIVE if interactive else pb.PRIORITY_BULK
        request = pb.EncodeImagesRequest(priority=priority)
        contents = [array.data.cast("B") for array in pixels]
        return await self._encode_images(pb.Image.PIXELS_FIELD_NUMBER, contents, request, deadline)

    async def _encode_images(
        self,
        source: int,
        contents: Sequence[raw_messages.Part],
        request: pb.EncodeImagesRequest,
        deadline: Deadline,
    ) -> EncodedBatch:
        """`source` is the number of the field of pb.Image that a content goes into."""
        parts = [
            part
            for content in contents
            for part in raw_messages.delimited(
                pb.EncodeImagesRequest.IMAGES_FIELD_NUMBER, *raw_messages.delimited(source, content)
            )
        ]
        raw = await raw_messages.joined(parts, request)
        return _batch(await self._call("EncodeImages", request, deadline, raw))

    async def _call(
        self,
        method: str,
        request: Message,
        deadline: Deadline,
        raw: bytes | None = None,
        explained: bool = False,
    ) -> Any:
        """The answer; `raw` is sent instead of a request of the same kind."""
        identity = request_id.get()
        metadata = ((REQUEST_ID, identity),) if identity else ()
        call = getattr(self._stub, method)
        with calling(request) as trace:
            try:
                answer = await call(
                    request if raw is None else raw,
                    timeout=deadline.left_s(),
                    metadata=(*metadata, *trace),
                )
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    self._look_anew_if_lost()
                raise await self._told(error, explained) from error
        self._lost_at_s = None
        return answer

    async def _told(self, raw: grpc.aio.AioRpcError, explained: bool) -> errors.GlimpseError:
        """What this service's callers are told, and its log."""
        error = from_rpc_error(raw, _PEER)
        if explained:
            error = await asyncio.to_thread(self._diagnosis.explained, error)
        return _ours(error, raw)

    def _look_anew_if_lost(self) -> None:
        now_s = time.monotonic()
        if self._lost_at_s is None:
            self._lost_at_s = now_s
        is_looking = self._looking is not None and not self._looking.done()
        if now_s - self._lost_at_s >= _MAX_LOST_S and not is_looking:
            self._looking = asyncio.create_task(self._look_anew())

    async def _look_anew(self) -> None:
        """Tries a new channel; the next call that fails has another one tried."""
        unused, grace_s = self._open(), 0.0
        try:
            if await _is_answered(unused) and self._lost_at_s is not None:
                unused, self._channel = self._channel, unused
                self._stub = _stub(self._channel)
                self._lost_at_s, grace_s = None, _MAX_CALL_S
        finally:
            closing = asyncio.create_task(unused.close(grace=grace_s))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)


async def _is_answered(channel: grpc.aio.Channel) -> bool:
    """Whether somebody is there, be it with an error."""
    call = _stub(channel).GetModel
    try:
        await call(pb.GetModelRequest(), timeout=_LOOK_S, wait_for_ready=True)
    except grpc.aio.AioRpcError as error:
        return bool(from_rpc_error(error, _PEER).reason)
    return True


def _stub(channel: grpc.aio.Channel) -> encoder_pb2_grpc.EncoderStub:
    """The contract's stub, but for EncodeImages, which takes its request as bytes."""
    stub = encoder_pb2_grpc.EncoderStub(channel)
    stub.EncodeImages = channel.unary_unary(
        _ENCODE_IMAGES, response_deserializer=pb.EncodeImagesResponse.FromString
    )
    return stub


def _ours(error: errors.GlimpseError, raw: grpc.aio.AioRpcError) -> errors.GlimpseError:
    if isinstance(error, errors.Unavailable) and not error.reason:
        return errors.Unavailable(f"{error}: {raw.details()}")
    if isinstance(error, errors.PermissionDenied):  # it is not their token that it refuses
        return errors.Unavailable(
            f"the encoder refuses this service's credentials: {error}", reason="ENCODER_REFUSES"
        )
    return error


def _batch(response: pb.EncodeTextsResponse | pb.EncodeImagesResponse) -> EncodedBatch:
    items = []
    is_texts = isinstance(response, pb.EncodeTextsResponse)
    template = response.prompt_template if is_texts else ""
    for result in response.results:
        truncated = isinstance(result, pb.TextResult) and result.truncated
        if result.WhichOneof("result") == "embedding":
            vector = embeddings.from_message(result.embedding)
            items.append(Embedded(vector, None, truncated, template))
        else:
            items.append(Embedded(None, from_status(result.error), truncated))
    timing = response.timing
    return EncodedBatch(items, response.model_fingerprint, timing.queue_us, timing.encode_us)
