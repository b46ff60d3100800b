"""`make soak`: minutes of mixed load on an encoder, every answer checked against its own input.

Texts, pixels and files, good and broken, interactive and bulk, some calls cancelled midway. What
each answer must be, this process has computed with the same model before.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import grpc
import numpy as np
from PIL import Image

from benchmarks import machine, stacks
from benchmarks.report import Bar, Figure, Report
from benchmarks.texts import new_texts
from glimpse.cli.console import say
from glimpse.encoder.v1 import encoder_pb2 as pb
from glimpse.encoder.v1 import encoder_pb2_grpc
from glimpse.errors import InvalidImage
from glimpse.pictures.preprocess import decode
from glimpse.transport.channel import open_aio_channel
from glimpse.transport.status import from_status
from services.encoder import checkpoint
from services.encoder.download import BUNDLED, DEMO_MODEL
from services.encoder.model import ClipModel

CALLERS = 16
_TEXTS, _CACHED_TEXTS, _PICTURES = 400, 100, 48  # most texts are computed again and again
_MAX_ITEMS = 8  # in a call
_CANCELLED_SHARE = 0.1
_LONGEST_PATIENCE_S = 0.02  # of a caller that will cancel
_DEADLINE_S = 60.0  # past it, an answer counts as lost
_NEAR = 0.9999  # a batch of another size may round differently
_MAX_PIXELS = 10_000_000


@dataclass(frozen=True)
class Item:
    """What is asked, and what must come back: a unit vector, float32 [D], or an error's reason."""

    content: str | pb.Image
    expected: np.ndarray | str


@dataclass
class Tally:
    """What came back."""

    calls: int = 0
    cancelled: int = 0
    vectors: int = 0
    refused: int = 0  # broken pictures, each for its own reason
    wrong: int = 0
    lost: int = 0


class Soak:
    """Callers in this process, and what they saw."""

    def __init__(self, address: str, seed: int) -> None:
        self.tally = Tally()
        self._address = address
        self._random = random.Random(seed)  # noqa: S311 (no secret)
        model = ClipModel(checkpoint.read(BUNDLED), "cpu", "fp32")
        self._texts = _texts(model, seed)
        self._images = _images(model, seed)

    async def run(self, seconds: float) -> None:
        """Load for `seconds`; may be called again, and then the tally goes on."""
        ends_at_s = time.monotonic() + seconds
        async with open_aio_channel(self._address) as channel:
            stub = encoder_pb2_grpc.EncoderStub(channel)
            await asyncio.gather(*(self._call_on(stub, ends_at_s) for _ in range(CALLERS)))

    async def _call_on(self, stub: encoder_pb2_grpc.EncoderStub, ends_at_s: float) -> None:
        while time.monotonic() < ends_at_s:
            pool = self._random.choice((self._texts, self._images))
            items = self._random.choices(pool, k=self._random.randint(1, _MAX_ITEMS))
            self.tally.calls += 1
            try:
                results = await self._ask(stub, items)
            except (grpc.aio.AioRpcError, asyncio.TimeoutError):
                self.tally.lost += 1
                continue
            if results is None:
                self.tally.cancelled += 1
            elif len(results) != len(items):
                self.tally.wrong += 1
            else:
                self._check(items, results)

    async def _ask(
        self, stub: encoder_pb2_grpc.EncoderStub, items: Sequence[Item]
    ) -> Sequence[pb.TextResult | pb.ImageResult] | None:
        """The results; None if the call was cancelled before they came."""
        texts = [item.content for item in items if isinstance(item.content, str)]
        images = [item.content for item in items if isinstance(item.content, pb.Image)]
        if texts:
            call = stub.EncodeTexts(pb.EncodeTextsRequest(texts=texts), timeout=_DEADLINE_S)
        else:
            priority = self._random.choice((pb.PRIORITY_BULK, pb.PRIORITY_INTERACTIVE))
            request = pb.EncodeImagesRequest(images=images, priority=priority)
            call = stub.EncodeImages(request, timeout=_DEADLINE_S)
        if self._random.random() < _CANCELLED_SHARE:
            patience_s = self._random.uniform(0, _LONGEST_PATIENCE_S)
            done, _ = await asyncio.wait({asyncio.ensure_future(_answer(call))}, timeout=patience_s)
            if not done:
                call.cancel()
                return None
        return (await asyncio.wait_for(_answer(call), 2 * _DEADLINE_S)).results

    def _check(
        self, items: Sequence[Item], results: Sequence[pb.TextResult | pb.ImageResult]
    ) -> None:
        for item, result in zip(items, results, strict=True):
            if result.WhichOneof("result") == "error":
                is_right = from_status(result.error).reason == item.expected
                self.tally.refused += is_right
            else:
                vector = np.array(result.embedding.values, np.float32)
                is_right = not isinstance(item.expected, str) and bool(
                    item.expected @ vector > _NEAR
                )
                self.tally.vectors += is_right
            self.tally.wrong += not is_right


async def _answer(call: grpc.aio.UnaryUnaryCall) -> pb.EncodeTextsResponse:
    return await call


def _texts(model: ClipModel, seed: int) -> list[Item]:
    texts = [text for text, _ in zip(new_texts(seed), range(_TEXTS), strict=False)]
    vectors, _ = model.encode_texts(texts)
    return [Item(text, vector) for text, vector in zip(texts, vectors, strict=True)]


def _images(model: ClipModel, seed: int) -> list[Item]:
    """Every third as pixels, every third as a file, every third as a file that is broken."""
    rng = np.random.default_rng(seed)
    items = []
    for number in range(_PICTURES):
        side = int(rng.integers(40, 400))
        noise = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(noise).resize((side, side)).save(file, ("JPEG", "PNG", "WEBP")[number % 3])
        content = file.getvalue()
        if number % 3 == 2:
            content = content[: int(rng.integers(0, len(content) - 20))]
        try:
            pixels = decode(content, model.preprocessing, _MAX_PIXELS).pixels
        except InvalidImage as error:
            items.append(Item(pb.Image(file=content), error.reason))
            continue
        image = pb.Image(pixels=pixels.tobytes()) if number % 3 else pb.Image(file=content)
        items.append(Item(image, model.encode_pixels([pixels])[0]))
    return items


async def soak(options: argparse.Namespace) -> Report:
    """Warm the encoder up, then load it, and watch its memory."""
    environment = {
        "ENCODER_PRECISION": "fp32",
        "ENCODER_MAX_CACHED_TEXTS": str(_CACHED_TEXTS),
        "ENCODER_LOG_LEVEL": "ERROR",
    }
    with stacks.running_encoder(DEMO_MODEL, environment) as (address, pid, _):
        soak = Soak(address, options.seed)
        await soak.run(options.warm_seconds)
        resident_mb = [stacks.rss_mb(pid)]
        ends_at_s = time.monotonic() + options.seconds
        while (left_s := ends_at_s - time.monotonic()) > 0:
            await soak.run(min(options.seconds / 60, left_s))
            resident_mb.append(stacks.rss_mb(pid))
            say(f"{soak.tally.calls} calls, {resident_mb[-1]:.0f} MB, {left_s:.0f} s left")
    tally = soak.tally
    report = Report("soak", "make soak", {})
    report.details = {
        "tally": asdict(tally),
        "resident_mb": resident_mb,
        "options": vars(options),
    }
    report.figures = [
        Figure("wrong", "responses that belong to another input", tally.wrong, Bar("at most", 0)),
        Figure("lost", "calls without a response", tally.lost, Bar("at most", 0)),
        Figure(
            "memory_growth",
            f"most resident memory in {options.seconds:.0f} s ÷ that after the first "
            f"{options.warm_seconds:.0f} s, {resident_mb[0]:.0f} MB",
            max(resident_mb) / resident_mb[0],
            Bar("at most", options.growth),
        ),
        Figure("calls", f"of {CALLERS} callers", tally.calls),
        Figure("vectors", "each checked against its input", tally.vectors),
        Figure("cancelled", "calls cancelled while in progress", tally.cancelled),
        Figure("refused", "broken pictures, each refused for its own reason", tally.refused),
    ]
    return report


def main() -> int:
    """Runs the soak; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=540.0)
    parser.add_argument("--warm-seconds", type=float, default=60.0)
    parser.add_argument("--growth", type=float, default=1.02, help="of memory, at most")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    stacks.end_on_sigterm()
    report = asyncio.run(soak(options))
    report.machine = machine.describe()
    report.write(stacks.OUTPUT / "soak.json")
    print(report.table())
    return 0 if all(figure.is_met is not False for figure in report.figures) else 1


if __name__ == "__main__":
    raise SystemExit(main())
