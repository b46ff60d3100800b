"""The encoder's contract over the batcher: convert the request, call, convert the outcomes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np

from glimpse import errors
from glimpse.encoder.v1 import encoder_pb2 as pb
from glimpse.encoder.v1 import encoder_pb2_grpc
from glimpse.transport.status import to_status
from services.common import embeddings
from services.common.codec import takes_bytes
from services.common.deadline import Deadline
from services.common.event_loop import paced
from services.common.interceptors import deadline_of
from services.common.message_fields import parse, take_apart
from services.common.text_bounds import (
    MAX_TEXT_CHARACTERS,
    check_template,
    check_text,
    in_template,
)
from services.common.threads import SideThread
from services.encoder import bounds
from services.encoder.batcher import Batcher, Encoded, Outcome
from services.encoder.decoder import Decoder, Pixels
from services.encoder.settings import EncoderSettings
from services.encoder.tokenizer import Tokenizer, Tokens
from services.encoder.work_queue import Lane

# Beyond, texts are tokenised on a thread, about so many characters at a time. A character takes up
# to 10 µs (emoji, mended encodings): 5 ms at a time, on the event loop or between two callers.
_MAX_INLINE_CHARACTERS = 500


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
        self._tokenising = SideThread("encoder-tokenise")

    def begin(self, loaded: Loaded) -> None:
        """Answer calls from now on; until then they get UNAVAILABLE."""
        self._loaded = loaded

    async def close(self) -> None:
        """Close what the calls stood on; for after the server has stopped."""
        self._tokenising.close()
        if self._loaded is not None:
            await self._loaded.batcher.close()
            await self._loaded.decoder.close()

    async def EncodeTexts(
        self, request: pb.EncodeTextsRequest, context: grpc.aio.ServicerContext
    ) -> pb.EncodeTextsResponse:
        loaded, deadline = self._ready(), self._deadline(context)
        bounds.check_count("texts", len(request.texts), self._settings.max_texts)
        template = loaded.model.prompt_template
        if request.HasField("prompt_template"):
            template = request.prompt_template
            check_template("prompt_template", template)
        texts = [in_template(template, text) for text in request.texts]
        tokens = await self._tokens(loaded.tokenizer, texts)
        good = [each.ids for each in tokens if isinstance(each, Tokens)]
        outcomes = iter(await loaded.batcher.encode(Lane.TEXT, good, deadline) if good else ())
        results, encoded = [], []
        async for each in paced(tokens):
            outcome = next(outcomes) if isinstance(each, Tokens) else each
            truncated = isinstance(each, Tokens) and each.truncated
            results.append(pb.TextResult(**_result(outcome), truncated=truncated))
            encoded.append(outcome)
        return pb.EncodeTextsResponse(
            results=results,
            model_fingerprint=loaded.model.fingerprint,
            timing=_timing(encoded),
            prompt_template=template,
        )

    @takes_bytes
    async def EncodeImages(
        self, request: bytes, context: grpc.aio.ServicerContext
    ) -> pb.EncodeImagesResponse:
        loaded, deadline = self._ready(), self._deadline(context)
        rest, images = take_apart(request, pb.EncodeImagesRequest.IMAGES_FIELD_NUMBER)
        bounds.check_count("images", len(images), self._settings.max_images)
        priority = parse(pb.EncodeImagesRequest, rest).priority
        pixels = await self._pixels(loaded, [image for _, image in images])
        lane = Lane.BULK if priority == pb.PRIORITY_BULK else Lane.IMAGE
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
            raise errors.Unavailable(
                f"the model {self._settings.model} is being loaded", reason="LOADING"
            )
        return self._loaded

    def _deadline(self, context: grpc.aio.ServicerContext) -> Deadline:
        return deadline_of(context, self._settings.default_timeout_s)

    async def _tokens(self, tokenizer: Tokenizer, texts: Sequence[str]) -> list[Tokens | Exception]:
        """The tokens of each text, or what is wrong with it."""
        tokens: list[Tokens | Exception] = []
        for part in _parts(texts):
            arguments = tokenizer, part, len(tokens)
            if part is texts:
                return self._tokenise(*arguments)
            # Part by part, so that callers with many texts take turns.
            tokens += await self._tokenising.run(self._tokenise, *arguments)
        return tokens

    def _tokenise(
        self, tokenizer: Tokenizer, texts: Sequence[str], first: int
    ) -> list[Tokens | Exception]:
        """The tokens of the texts, of which the first has the number `first` in the request."""
        tokens: list[Tokens | Exception] = []
        for index, text in enumerate(texts, first):
            try:
                check_text(f"texts[{index}]", text)
                tokens.append(tokenizer.encode(text))
            except errors.InvalidInput as error:
                tokens.append(errors.as_value(error))
        return tokens

    async def _pixels(
        self, loaded: Loaded, images: Sequence[memoryview]
    ) -> list[Pixels | Exception]:
        """The pixels of each image, uint8 [S, S, 3], or what is wrong with it."""
        size = loaded.model.image_size
        sources = []
        for index, image in enumerate(images):
            field = f"images[{index}]"
            sources.append(_source(field, image, size, self._settings.max_file_bytes))
            if isinstance(sources[-1], bytes):
                await asyncio.sleep(0)  # it was copied: for 16 MiB, others have waited long enough
        files = [source for source in sources if isinstance(source, bytes)]
        decoded = iter(await loaded.decoder.decode(files) if files else ())
        return [
            _placed(next(decoded), f"images[{index}].file") if isinstance(source, bytes) else source
            for index, source in enumerate(sources)
        ]


def _parts(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """The texts in parts of about _MAX_INLINE_CHARACTERS; `texts` itself where one part does."""
    if sum(map(len, texts)) <= _MAX_INLINE_CHARACTERS:
        yield texts
        return
    part: list[str] = []
    characters = 0
    for text in texts:
        if part and characters + len(text) > _MAX_INLINE_CHARACTERS:
            yield part
            part, characters = [], 0
        part.append(text)
        characters += len(text)
    yield part


def _source(
    field: str, image: memoryview, size: int, max_file_bytes: int
) -> bytes | Pixels | errors.InvalidInput:
    """An image's file, its pixels, or what is wrong with it; one image's fault is its own."""
    _, sources = take_apart(image, pb.Image.FILE_FIELD_NUMBER, pb.Image.PIXELS_FIELD_NUMBER)
    try:
        if not sources:
            raise errors.InvalidInput(field, "needs a file or pixels")
        source, content = sources[-1]  # the last of a oneof counts
        if source == pb.Image.FILE_FIELD_NUMBER:
            bounds.check_file(f"{field}.file", content, max_file_bytes)
            return bytes(content)
        bounds.check_pixels(f"{field}.pixels", content, size)
        return np.frombuffer(content, np.uint8).reshape(size, size, 3)
    except errors.InvalidInput as error:
        return errors.as_value(error)


def _placed(outcome: Pixels | Exception, field: str) -> Pixels | Exception:
    """The outcome of a file, an error of it naming its place in the request."""
    return outcome.at(field) if isinstance(outcome, errors.InvalidImage) else outcome


def _result(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Encoded):
        return {"embedding": embeddings.to_message(outcome.vector)}
    return {"error": to_status(outcome)}


def _timing(outcomes: Sequence[Outcome]) -> pb.Timing:
    encoded = [outcome for outcome in outcomes if isinstance(outcome, Encoded)]
    return pb.Timing(
        queue_us=max((each.queue_us for each in encoded), default=0),
        encode_us=sum({each.batch: each.encode_us for each in encoded}.values()),
    )
