"""The encoder's contract over the batcher: convert the request, call, convert the outcomes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np

from glimpse import errors
from glimpse.encoder.v1 import encoder_pb2 as pb
from glimpse.encoder.v1 import encoder_pb2_grpc
from glimpse.transport.status import to_status
from services.common.deadline import Deadline
from services.common.interceptors import deadline_of
from services.common.text_bounds import MAX_TEXT_CHARACTERS, check_text
from services.encoder.batcher import Batcher, Encoded, Outcome
from services.encoder.decoder import Decoder, Pixels
from services.encoder.settings import EncoderSettings
from services.encoder.tokenizer import Tokenizer, Tokens
from services.encoder.work_queue import Lane

# Longer requests are tokenised on a thread, so that they do not hold up the event loop.
_MAX_INLINE_CHARACTERS = 2_000


@dataclass(frozen=True)
class Loaded:
    """What the servicer stands on once the model is loaded."""

    model: pb.Model
    tokenizer: Tokenizer
    batcher: Batcher
    decoder: Decoder


class EncoderServicer(encoder_pb2_grpc.EncoderServicer):
    """The contract in protos/glimpse/encoder/v1; errors become statuses in the interceptor."""

    def __init__(self, settings: EncoderSettings) -> None:
        self._settings = settings
        self._loaded: Loaded | None = None

    def begin(self, loaded: Loaded) -> None:
        """Answer calls from now on; until then they get UNAVAILABLE."""
        self._loaded = loaded

    async def close(self) -> None:
        """Close what the calls stood on; for after the server has stopped."""
        if self._loaded is not None:
            await self._loaded.batcher.close()
            self._loaded.decoder.close()

    async def EncodeTexts(
        self, request: pb.EncodeTextsRequest, context: grpc.aio.ServicerContext
    ) -> pb.EncodeTextsResponse:
        loaded, deadline = self._ready(), self._deadline(context)
        texts = list(request.texts)
        _check_count("texts", len(texts), self._settings.max_texts)
        if sum(map(len, texts)) > _MAX_INLINE_CHARACTERS:
            tokens = await asyncio.to_thread(self._tokenise, loaded.tokenizer, texts)
        else:
            tokens = self._tokenise(loaded.tokenizer, texts)
        good = [each.ids for each in tokens if isinstance(each, Tokens)]
        outcomes = iter(await loaded.batcher.encode(Lane.TEXT, good, deadline) if good else ())
        results, encoded = [], []
        for each in tokens:
            outcome = next(outcomes) if isinstance(each, Tokens) else each
            truncated = isinstance(each, Tokens) and each.truncated
            results.append(pb.TextResult(**_result(outcome), truncated=truncated))
            encoded.append(outcome)
        return pb.EncodeTextsResponse(
            results=results,
            model_fingerprint=loaded.model.fingerprint,
            timing=_timing(encoded),
        )

    async def EncodeImages(
        self, request: pb.EncodeImagesRequest, context: grpc.aio.ServicerContext
    ) -> pb.EncodeImagesResponse:
        loaded, deadline = self._ready(), self._deadline(context)
        _check_count("images", len(request.images), self._settings.max_images)
        pixels = await self._pixels(loaded, request.images)
        lane = Lane.BULK if request.priority == pb.PRIORITY_BULK else Lane.IMAGE
        good = [each for each in pixels if isinstance(each, np.ndarray)]
        outcomes = iter(await loaded.batcher.encode(lane, good, deadline) if good else ())
        encoded = [next(outcomes) if isinstance(each, np.ndarray) else each for each in pixels]
        return pb.EncodeImagesResponse(
            results=[pb.ImageResult(**_result(outcome)) for outcome in encoded],
            model_fingerprint=loaded.model.fingerprint,
            timing=_timing(encoded),
        )

    async def GetModel(
        self, request: pb.GetModelRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetModelResponse:
        settings = self._settings
        return pb.GetModelResponse(
            model=self._ready().model,
            limits=pb.Limits(
                max_texts=settings.max_texts,
                max_text_characters=MAX_TEXT_CHARACTERS,
                max_images=settings.max_images,
                max_file_bytes=settings.max_file_bytes,
                max_image_pixels=settings.max_image_pixels,
                max_message_bytes=settings.max_message_bytes,
            ),
        )

    def _ready(self) -> Loaded:
        if self._loaded is None:
            raise errors.Unavailable("the model is being loaded", reason="LOADING")
        return self._loaded

    def _deadline(self, context: grpc.aio.ServicerContext) -> Deadline:
        return deadline_of(context, self._settings.default_timeout_s)

    def _tokenise(self, tokenizer: Tokenizer, texts: Sequence[str]) -> list[Tokens | Exception]:
        """The tokens of each text, or what is wrong with it."""
        tokens: list[Tokens | Exception] = []
        for index, text in enumerate(texts):
            try:
                check_text(f"texts[{index}]", text)
                tokens.append(tokenizer.encode(text))
            except errors.InvalidInput as error:
                tokens.append(error)
        return tokens

    async def _pixels(self, loaded: Loaded, images: Sequence[pb.Image]) -> list[Pixels | Exception]:
        """The pixels of each image, uint8 [S, S, 3], or what is wrong with it."""
        files = [image.file for image in images if image.WhichOneof("source") == "file"]
        decoded = iter(await loaded.decoder.decode(files) if files else ())
        pixels: list[Pixels | Exception] = []
        for index, image in enumerate(images):
            field = f"images[{index}]"
            source = image.WhichOneof("source")
            if source == "file":
                pixels.append(_placed(next(decoded), f"{field}.file"))
            elif source == "pixels":
                pixels.append(_square(image.pixels, loaded.model.image_size, f"{field}.pixels"))
            else:
                pixels.append(errors.InvalidInput(field, "needs a file or pixels"))
        return pixels


def _check_count(field: str, count: int, bound: int) -> None:
    if not 1 <= count <= bound:
        raise errors.InvalidInput(field, f"takes 1 to {bound}, not {count}")


def _placed(outcome: Pixels | Exception, field: str) -> Pixels | Exception:
    """The outcome of a file, an error of it naming its place in the request."""
    return outcome.at(field) if isinstance(outcome, errors.InvalidImage) else outcome


def _square(content: bytes, size: int, field: str) -> Pixels | Exception:
    expected_bytes = size * size * 3
    if len(content) != expected_bytes:
        return errors.InvalidImage(
            field, f"has {len(content)} bytes; {size} x {size} x 3 = {expected_bytes} are taken"
        )
    return np.frombuffer(content, np.uint8).reshape(size, size, 3)


def _result(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Encoded):
        return {"embedding": pb.Embedding(values=outcome.vector.tolist())}
    return {"error": to_status(outcome)}


def _timing(outcomes: Sequence[Outcome]) -> pb.Timing:
    encoded = [outcome for outcome in outcomes if isinstance(outcome, Encoded)]
    return pb.Timing(
        queue_us=max((each.queue_us for each in encoded), default=0),
        encode_us=sum({each.batch: each.encode_us for each in encoded}.values()),
    )
