"""Builds the encoder out of its parts and runs it; what the parts do is theirs."""

from __future__ import annotations

import asyncio
import logging
import threading
from asyncio import FIRST_COMPLETED
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from prometheus_client import REGISTRY, CollectorRegistry

from glimpse.encoder.v1 import encoder_pb2 as pb
from glimpse.encoder.v1 import encoder_pb2_grpc
from glimpse.files import sha256_of
from glimpse.pictures.preprocessing import PREPROCESSING_VERSION
from services.common.deadline import Deadline
from services.common.server import Server, StartFailure, run_service
from services.common.settings import load
from services.encoder.batcher import Batcher
from services.encoder.decoder import Decoder
from services.encoder.device import DeviceLost
from services.encoder.download import DownloadError, locate
from services.encoder.metrics import BatchMetrics, EncoderCollector
from services.encoder.servicer import EncoderServicer, Loaded
from services.encoder.settings import EncoderSettings
from services.encoder.work_queue import Lane, Limits

if TYPE_CHECKING:
    from services.encoder.checkpoint import Shape
    from services.encoder.model import ClipModel

SERVICE = pb.DESCRIPTOR.services_by_name["Encoder"].full_name

_MAX_BATCH_IMAGES = {"cpu": 32, "cuda": 256}
# A GPU's recorded image tower has one place for what it is given.
_LET_IN = {"cpu": frozenset({Lane.TEXT, Lane.IMAGE}), "cuda": frozenset({Lane.TEXT})}
# A CPU takes larger batches in parts like those of so many.
_MAX_WARM_UP_ITEMS = {"cpu": 16, "cuda": 10_000}
_WARM_UP_TIMEOUT_S = 600.0
_SAME = 1e-6  # between unit vectors; in bf16, those of different inputs differ by a thousandth
_TELL_S = 60.0  # between the lines about a model that is still loading

Result = TypeVar("Result")

log = logging.getLogger(__name__)


def load_model(settings: EncoderSettings) -> tuple[ClipModel, pb.Model]:
    """The model and its description; fetches the weights if need be. Raises StartFailure."""
    try:
        weights = locate(settings.model, settings.cache_dir, settings.weights_url)
    except DownloadError as error:
        raise StartFailure(f"ENCODER_MODEL: {error}") from error
    digest = _digest_meanwhile(weights.path)
    # Not at the top: torch takes seconds to import, and --help and health need not wait for it.
    from services.encoder import checkpoint, precisions
    from services.encoder.hardware import DeviceUnusable, PrecisionUnusable

    try:
        read = checkpoint.read(weights, settings.activation or None, digest)
        model, agreement = precisions.load(read, settings)
        _check_vectors(model)
    except FloatingPointError as error:
        raise StartFailure(
            "ENCODER_MODEL: with these weights, vectors are zero or not finite in "
            f"{settings.precision}: a projection of zeros, or values beyond its range"
        ) from error
    except checkpoint.CheckpointError as error:
        raise StartFailure(f"ENCODER_MODEL: {error}") from error
    except DeviceUnusable as error:
        raise StartFailure(f"ENCODER_DEVICE: {error}") from error
    except PrecisionUnusable as error:
        raise StartFailure(f"ENCODER_PRECISION: {error}") from error
    except Exception as error:
        if not _is_devices(error):
            raise
        raise _device_failure(error) from error
    description = pb.Model(
        name=read.name,
        fingerprint=read.fingerprint,
        dimension=read.shape.dimension,
        image_size=read.preprocessing.image_size,
        context_length=read.shape.context_length,
        precision=model.precision,
        device=str(model.device),
        preprocessing_version=PREPROCESSING_VERSION,
        resize=f"RESIZE_{read.preprocessing.resize.name}",
        interpolation=f"INTERPOLATION_{read.preprocessing.interpolation.name}",
        int8_cosine=agreement.least_cosine if agreement else 0.0,
        int8_neighbours=agreement.neighbours if agreement else 0.0,
        prompt_template=read.prompt_template,
    )
    return model, description


def _digest_meanwhile(path: Path) -> Future[str] | None:
    """The SHA-256 of a file, computed while torch is imported; a folder's file is not known yet."""
    if not path.is_file():
        return None
    pool = ThreadPoolExecutor(1, thread_name_prefix="encoder-digest")
    digest = pool.submit(sha256_of, path)
    pool.shutdown(wait=False)
    return digest


def _is_devices(error: Exception) -> bool:
    """Whether it is the device's and not the program's; cuBLAS' and cuDNN's have no class."""
    return isinstance(error, MemoryError | DeviceLost) or "CUDA" in str(error)


def _device_failure(error: Exception) -> StartFailure:
    """One line that names the device's setting, what happened, and what to do."""
    reason = next(iter(str(error).splitlines()), "") or repr(error)
    what, then = "the model does not run there", "look at its driver"
    if isinstance(error, MemoryError):
        what, then = "too little memory for the model there", "free some"
    return StartFailure(f"ENCODER_DEVICE: {what}: {reason}; {then}, or set another: cuda:N, cpu")


def _check_vectors(model: ClipModel) -> None:
    """Raises FloatingPointError where the weights give no vectors, being too large or small, or
    zeros; StartFailure where they give the same one, whatever is to be encoded."""
    size = model.shape.image_size
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    for what, (first, second) in (
        ("texts", model.encode_texts(["a photo", "a"])[0]),
        ("pictures", model.encode_pixels([noise, np.full_like(noise, 255)])),
    ):
        if np.allclose(first, second, rtol=0, atol=_SAME):
            raise StartFailure(
                f"ENCODER_MODEL: with these weights, all {what} have the same vector: a projection "
                "of zeros"
            )


def batch_limits(settings: EncoderSettings, device_type: str) -> Limits:
    """The bounds of queue and batches that the settings ask for on this kind of device."""
    return Limits(
        max_batch_texts=settings.max_batch_texts,
        max_batch_images=settings.max_batch_images or _MAX_BATCH_IMAGES[device_type],
        max_batch_bytes=settings.max_batch_bytes,
        max_queued_texts=settings.max_queued_texts,
        max_queued_images=settings.max_queued_images,
        let_in=_LET_IN[device_type],
    )


def build(
    settings: EncoderSettings,
    model: ClipModel,
    description: pb.Model,
    on_death: Callable[[BaseException], None],
    metrics: BatchMetrics | None = None,
) -> Loaded:
    """What the servicer stands on; needs a running event loop, and is closed by the servicer."""
    decoder = Decoder(settings, model.preprocessing)
    limits = batch_limits(settings, model.device.type)
    observe = (metrics or BatchMetrics(CollectorRegistry())).observe
    batcher = Batcher(model, limits, settings.max_cached_texts, on_death, observe)
    return Loaded(description, model.tokenizer, batcher, decoder)


async def warm_up(batcher: Batcher, shape: Shape, limits: Limits, device_type: str) -> None:
    """Run the largest batches once, on the worker; raises StartFailure where they fail."""
    most = _MAX_WARM_UP_ITEMS[device_type]
    texts = [np.arange(shape.context_length) + i for i in range(min(limits.max_batch_texts, most))]
    black = np.zeros((shape.image_size, shape.image_size, 3), np.uint8)
    images = [black] * min(limits.max_batch_images, most)
    deadline = Deadline(_WARM_UP_TIMEOUT_S)
    outcomes = [
        *await batcher.encode(Lane.TEXT, texts[: limits.max_queued_texts], deadline),
        *await batcher.encode(Lane.BULK, images[: limits.max_queued_images], deadline),
    ]
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise _device_failure(outcome)


async def start(settings: EncoderSettings, server: Server, servicer: EncoderServicer) -> None:
    """Load the model, warm it up, and only then call the service SERVING."""
    model, description = await _in_daemon_thread(lambda: load_model(settings))
    loaded = build(
        settings,
        model,
        description,
        on_death=lambda cause: server.fail(f"the device's worker died: {cause!r}"),
        metrics=BatchMetrics(),
    )
    REGISTRY.register(EncoderCollector(loaded.batcher, description))
    loaded.decoder.start()
    limits = batch_limits(settings, model.device.type)
    await warm_up(loaded.batcher, model.shape, limits, model.device.type)
    servicer.begin(loaded)
    await server.set_serving(True)
    log.info("serving %s on %s in %s", description.name, description.device, description.precision)


async def serve(settings: EncoderSettings) -> int:
    """Serves until told to stop, or until the worker dies; returns the process's exit code."""
    server = Server(settings, [SERVICE])
    servicer = EncoderServicer(settings)
    encoder_pb2_grpc.add_EncoderServicer_to_server(servicer, server.grpc)
    await server.start()
    running = asyncio.create_task(server.run(servicer.close))
    starting = asyncio.create_task(start(settings, server, servicer))
    log.info("loading the model %s", settings.model)
    tasks = {running, starting}
    while not (await asyncio.wait(tasks, timeout=_TELL_S, return_when=FIRST_COMPLETED))[0]:
        log.warning("still loading the model %s", settings.model)
    try:
        if starting.done():
            starting.result()
            return await running
        return running.result()  # told to stop before the model was loaded
    except StartFailure:
        await server.stop(None)
        raise
    finally:
        starting.cancel()
        running.cancel()


def main() -> int:
    """Runs the service; returns the process's exit code."""
    settings = load(EncoderSettings)
    return run_service(settings, lambda: serve(settings))


async def _in_daemon_thread(function: Callable[[], Result]) -> Result:
    """Run `function` where a stop of the process need not wait for it, unlike asyncio's pool."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def resolve(result: Result | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        try:
            outcome = (function(), None)
        except BaseException as error:
            outcome = (None, error)
        loop.call_soon_threadsafe(resolve, *outcome)

    threading.Thread(target=run, name="encoder-load", daemon=True).start()
    return await future
