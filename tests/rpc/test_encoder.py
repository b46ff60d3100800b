"""The encoder over gRPC: a real server, a real CLIP (small, untrained), bad items, full queues."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import sys
import threading

import grpc
import numpy as np
import pytest
from google.rpc import code_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from PIL import Image

from glimpse import errors
from glimpse.cli.ports import free_ports
from glimpse.encoder.v1 import encoder_pb2 as pb
from glimpse.encoder.v1 import encoder_pb2_grpc
from glimpse.files import sha256_of
from glimpse.pictures import preprocess
from glimpse.pictures.preprocessing import PREPROCESSING_VERSION, Preprocessing
from glimpse.transport.status import from_rpc_error, from_status
from services.encoder.device import DeviceLost
from services.encoder.main import SERVICE, build, load_model
from services.encoder.servicer import EncoderServicer
from services.encoder.settings import EncoderSettings
from services.encoder.work_queue import Lane
from tests import fakes
from tests.clip_models import saved
from tests.observed import scrape
from tests.waiting import until

SIZE = 32
DIMENSION = 48


class GatedModel:
    """A model that computes once its gate is open, and counts what it was given."""

    def __init__(self, model) -> None:
        self._model = model
        self.gate, self.busy = threading.Event(), threading.Event()
        self.gate.set()
        self.shape, self.device, self.tokenizer = model.shape, model.device, model.tokenizer
        self.preprocessing = model.preprocessing
        self.computed = 0
        self.lost = False
        self.waiting = lambda lane: 0  # items that wait for this device

    def encode_tokens(self, texts):
        return self._when_open(len(texts), lambda: self._model.encode_tokens(texts))

    def encode_pixels(self, pixels, between):
        return self._when_open(len(pixels), lambda: self._model.encode_pixels(pixels, between))

    def _when_open(self, count, compute):
        self.busy.set()
        assert self.gate.wait(20)
        if self.lost:
            raise DeviceLost("gone")
        self.computed += count
        return compute()

    async def until_busy(self) -> None:
        assert await asyncio.to_thread(self.busy.wait, 20)
        self.busy.clear()

    async def until_waiting(self, lane: Lane, count: int) -> None:
        await until(lambda: self.waiting(lane) == count)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("clip") / "tiny.pt", seed=8)


@pytest.fixture(scope="module")
def loaded_model(weights):
    return load_model(
        EncoderSettings(model=str(weights), activation="quick_gelu", device="cpu", precision="fp32")
    )


@pytest.fixture
def device(loaded_model):
    return GatedModel(loaded_model[0])


@pytest.fixture
async def serve(weights, loaded_model, device):
    async with contextlib.AsyncExitStack() as stack:

        async def start(on_death=lambda _: None, **overrides) -> encoder_pb2_grpc.EncoderStub:
            settings = EncoderSettings(model=str(weights), **overrides)
            servicer = EncoderServicer(settings)
            loaded = build(settings, device, loaded_model[1], on_death)
            device.waiting = loaded.batcher.waiting
            servicer.begin(loaded)
            stack.push_async_callback(servicer.close)
            add = encoder_pb2_grpc.add_EncoderServicer_to_server
            target = await stack.enter_async_context(fakes.serve(add, servicer))
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(target))
            stack.callback(device.gate.set)
            return encoder_pb2_grpc.EncoderStub(channel)

        yield start


def texts(*values: str) -> pb.EncodeTextsRequest:
    return pb.EncodeTextsRequest(texts=values)


def picture(seed: int = 0, width: int = 60, height: int = 40) -> bytes:
    samples = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(samples).save(buffer, "PNG")
    return buffer.getvalue()


def vectors(response) -> np.ndarray:
    return np.array([result.embedding.values for result in response.results], dtype=np.float32)


async def refused(call) -> errors.GlimpseError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value, "encoder")


def item_errors(response) -> dict[int, tuple[str, str | None]]:
    """Reason and field of every item that failed."""
    failed = {}
    for index, result in enumerate(response.results):
        if result.WhichOneof("result") == "error":
            assert result.error.code == code_pb2.INVALID_ARGUMENT
            error = from_status(result.error)
            failed[index] = (error.reason, error.field)
    return failed


async def test_texts_become_the_vectors_of_the_model(serve, loaded_model) -> None:
    stub = await serve()
    wanted = ["a white dog", "ein weißer Hund", "白い犬 🐕", "tabs\tand\nlines"]
    response = await stub.EncodeTexts(texts(*wanted), timeout=20)
    expected, _ = loaded_model[0].encode_texts(wanted)
    assert np.abs(vectors(response) - expected).max() < 1e-5
    assert response.model_fingerprint == loaded_model[1].fingerprint
    assert not any(result.truncated for result in response.results)
    assert response.timing.encode_us > 0


async def test_texts_are_put_into_the_template_that_is_given(serve, loaded_model) -> None:
    stub = await serve()
    request = pb.EncodeTextsRequest(texts=["a dog"], prompt_template="this is a photo of {}.")
    response = await stub.EncodeTexts(request)
    expected, _ = loaded_model[0].encode_texts(["this is a photo of a dog."])
    assert np.abs(vectors(response) - expected).max() < 1e-5
    assert response.prompt_template == "this is a photo of {}."


async def test_a_template_without_one_place_for_the_text_is_refused(serve) -> None:
    stub = await serve()
    for template in ("a photo", "{} {}", "{}" + "x" * 1_023, "{}\0"):
        request = pb.EncodeTextsRequest(texts=["a dog"], prompt_template=template)
        error = await refused(stub.EncodeTexts(request))
        assert isinstance(error, errors.InvalidInput)
        assert error.field == "prompt_template"


async def test_files_and_pixels_of_one_picture_give_one_vector(serve, loaded_model) -> None:
    stub = await serve()
    pixels = preprocess.decode(picture(), Preprocessing(SIZE), 10**6).pixels
    images = [pb.Image(file=picture()), pb.Image(pixels=pixels.tobytes())]
    response = await stub.EncodeImages(pb.EncodeImagesRequest(images=images), timeout=20)
    expected = loaded_model[0].encode_pixels(pixels[None])
    assert np.abs(vectors(response) - expected).max() < 1e-5


async def test_the_model_and_its_limits_are_told(serve, weights) -> None:
    stub = await serve(max_texts=7, max_image_pixels=12345)
    response = await stub.GetModel(pb.GetModelRequest(), timeout=20)
    model = response.model
    sha256 = sha256_of(weights)
    assert model.fingerprint == f"{sha256}/{SIZE}px/v{PREPROCESSING_VERSION}"
    assert (model.name, model.dimension, model.image_size) == ("tiny", DIMENSION, SIZE)
    assert (model.context_length, model.precision, model.device) == (77, "fp32", "cpu")
    assert model.int8_cosine == 0
    assert model.preprocessing_version == PREPROCESSING_VERSION
    assert (response.limits.max_texts, response.limits.max_image_pixels) == (7, 12345)


async def test_bad_texts_fail_alone_and_name_their_place(serve) -> None:
    stub = await serve()
    request = texts("a dog", "", "  \n", "bad\x00", "bad\x1b[0m", "x" * 8193, "a\x85cat")
    response = await stub.EncodeTexts(request, timeout=20)
    assert item_errors(response) == {
        1: ("TEXT_EMPTY", "texts[1]"),
        2: ("TEXT_EMPTY", "texts[2]"),
        3: ("TEXT_CONTROL_CHARACTER", "texts[3]"),
        4: ("TEXT_CONTROL_CHARACTER", "texts[4]"),
        5: ("TEXT_TOO_LONG", "texts[5]"),
    }
    assert "8192" in response.results[5].error.message
    assert "U+001B" in response.results[4].error.message
    for good in (0, 6):
        values = np.array(response.results[good].embedding.values)
        assert abs(np.linalg.norm(values) - 1) < 1e-5


async def test_over_long_texts_are_cut_and_reported(serve) -> None:
    stub = await serve()
    request = texts("dog " * 75, "dog " * 76, "dog " * 2000, "dog " * 75 + "never read")
    response = await stub.EncodeTexts(request, timeout=20)
    assert [result.truncated for result in response.results] == [False, True, True, True]
    found = vectors(response)
    assert np.abs(found - found[0]).max() < 1e-5


async def test_bad_images_fail_alone_and_name_their_place(serve) -> None:
    stub = await serve(max_file_bytes=20_000)
    images = [
        pb.Image(file=picture()),
        pb.Image(file=b""),
        pb.Image(file=b"no picture"),
        pb.Image(file=picture()[:2000]),
        pb.Image(),
        pb.Image(pixels=b"too short"),
        pb.Image(file=picture(width=200, height=100)),
        pb.Image(pixels=bytes(SIZE * SIZE * 3)),
    ]
    response = await stub.EncodeImages(pb.EncodeImagesRequest(images=images), timeout=20)
    assert item_errors(response) == {
        1: ("IMAGE_EMPTY", "images[1].file"),
        2: ("IMAGE_UNREADABLE", "images[2].file"),
        3: ("IMAGE_TRUNCATED", "images[3].file"),
        4: ("INVALID_INPUT", "images[4]"),
        5: ("INVALID_IMAGE", "images[5].pixels"),
        6: ("IMAGE_TOO_LARGE", "images[6].file"),
    }
    alone = pb.EncodeImagesRequest(images=images[:1])
    good = vectors(await stub.EncodeImages(alone, timeout=20))[0]
    assert np.abs(np.array(response.results[0].embedding.values) - good).max() < 1e-5
    assert len(response.results[7].embedding.values) == DIMENSION


@pytest.mark.parametrize("count", [0, 5])
async def test_a_call_of_none_or_too_many_is_refused_with_the_bound(serve, count) -> None:
    stub = await serve(max_texts=4, max_images=4)
    for call, field in (
        (stub.EncodeTexts(texts(*["a"] * count), timeout=20), "texts"),
        (stub.EncodeImages(pb.EncodeImagesRequest(images=[pb.Image()] * count)), "images"),
    ):
        error = await refused(call)
        assert isinstance(error, errors.InvalidInput)
        assert error.field == field
        assert "1 to 4" in str(error)


async def test_cancelled_caller_does_not_disturb_its_batch(serve, device, loaded_model) -> None:
    stub = await serve()
    device.gate.clear()
    first = stub.EncodeTexts(texts("holds the device"), timeout=20)
    await device.until_busy()
    calls = [stub.EncodeTexts(texts(f"text {i}"), timeout=20) for i in range(8)]
    await device.until_waiting(Lane.TEXT, 8)
    calls[2].cancel()
    calls[5].cancel()
    await device.until_waiting(Lane.TEXT, 6)
    device.gate.set()
    for i, call in enumerate(calls):
        if i in (2, 5):
            with pytest.raises(asyncio.CancelledError):
                await call
        else:
            expected, _ = loaded_model[0].encode_texts([f"text {i}"])
            assert np.abs(vectors(await call) - expected).max() < 1e-5
    await first
    assert device.computed == 7


async def test_overload_is_answered_at_once_with_a_time_to_try_again(serve, device) -> None:
    stub = await serve(max_queued_texts=2, max_texts=2)
    device.gate.clear()
    first = stub.EncodeTexts(texts("holds the device"), timeout=20)
    await device.until_busy()
    waiting = stub.EncodeTexts(texts("one", "two"), timeout=20)
    await device.until_waiting(Lane.TEXT, 2)
    refusals = [stub.EncodeTexts(texts(f"text {i}", "more"), timeout=20) for i in range(5)]
    for call in refusals:  # answered while the device is still held
        error = await refused(call)
        assert isinstance(error, errors.Overloaded)
        assert error.retry_after_s is not None
        assert error.retry_after_s >= 0.05
    device.gate.set()
    assert len((await waiting).results) == 2
    await first


async def test_too_many_files_at_once_are_refused(serve, device) -> None:
    stub = await serve(max_decoding_images=4, max_images=4)
    images = [pb.Image(file=picture(seed, 800, 800)) for seed in range(4)]
    calls = [stub.EncodeImages(pb.EncodeImagesRequest(images=images), timeout=60) for _ in range(6)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    codes = [o.code() for o in outcomes if isinstance(o, grpc.aio.AioRpcError)]
    assert codes
    assert set(codes) == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    answered = [o for o in outcomes if isinstance(o, pb.EncodeImagesResponse)]
    assert answered
    assert all(len(vectors(each)) == 4 for each in answered)


async def test_a_caller_past_his_deadline_costs_no_device_time(serve, device) -> None:
    stub = await serve()
    device.gate.clear()
    first = stub.EncodeTexts(texts("holds the device"), timeout=20)
    await device.until_busy()
    error = await refused(stub.EncodeTexts(texts("late"), timeout=0.1))
    assert isinstance(error, errors.DeadlineExceeded)
    device.gate.set()
    await first
    assert device.computed == 1


async def test_the_same_text_again_costs_no_device_time(serve, device) -> None:
    stub = await serve()
    once = await stub.EncodeTexts(texts("a white dog", "a white dog"), timeout=20)
    again = await stub.EncodeTexts(texts("A WHITE dog", "a white  dog"), timeout=20)
    assert device.computed == 1
    assert np.abs(vectors(once) - vectors(again)).max() == 0
    assert again.timing.encode_us == 0


async def test_texts_pass_bulk_images(serve, device) -> None:
    stub = await serve(max_batch_images=1)
    device.gate.clear()
    black = pb.Image(pixels=bytes(SIZE * SIZE * 3))
    request = pb.EncodeImagesRequest(images=[black] * 8, priority=pb.PRIORITY_BULK)
    bulk = stub.EncodeImages(request, timeout=20)
    await device.until_busy()
    text = stub.EncodeTexts(texts("a dog"), timeout=20)
    finished: list[str] = []
    text.add_done_callback(lambda _: finished.append("text"))
    bulk.add_done_callback(lambda _: finished.append("bulk"))
    await device.until_waiting(Lane.TEXT, 1)
    device.gate.set()
    await asyncio.gather(text, bulk)
    assert finished == ["text", "bulk"]


async def test_a_lost_device_fails_its_callers_and_every_later_one(serve, device) -> None:
    died = asyncio.Event()
    stub = await serve(on_death=lambda _: died.set())
    device.lost = True
    response = await stub.EncodeTexts(texts("a dog"), timeout=20)
    assert response.results[0].error.code == code_pb2.UNAVAILABLE
    await died.wait()
    error = await refused(stub.EncodeTexts(texts("a cat"), timeout=20))
    assert isinstance(error, errors.Unavailable)
    assert error.reason == "WORKER_DIED"


async def test_calls_before_the_model_is_loaded_are_told_so() -> None:
    add = encoder_pb2_grpc.add_EncoderServicer_to_server
    async with (
        fakes.serve(add, EncoderServicer(EncoderSettings())) as target,
        grpc.aio.insecure_channel(target) as channel,
    ):
        stub = encoder_pb2_grpc.EncoderStub(channel)
        error = await refused(stub.EncodeTexts(texts("a dog"), timeout=20))
    assert isinstance(error, errors.Unavailable)
    assert error.reason == "LOADING"


# The process: start, health, metrics, exit codes.


MODULE = ("-m", "services.encoder")

# The encoder with a device that is lost at the first text that a caller sends.
DOOMED = """
import sys
from services.encoder import main, model
from services.encoder.device import DeviceLost

encode = model.ClipModel.encode_tokens

def encode_or_die(self, texts):
    if len(texts) == 1:
        raise DeviceLost("pulled out")
    return encode(self, texts)

model.ClipModel.encode_tokens = encode_or_die
sys.exit(main.main())
"""


def environment(**settings: object) -> dict[str, str]:
    fixed = {
        "ENCODER_LISTEN": "127.0.0.1:0",
        "ENCODER_METRICS_LISTEN": "127.0.0.1:0",
        "ENCODER_LOG_FORMAT": "text",
        "ENCODER_DEVICE": "cpu",
    }
    return {**os.environ, **fixed, **{f"ENCODER_{k.upper()}": str(v) for k, v in settings.items()}}


@contextlib.asynccontextmanager
async def process(*arguments: str, program: tuple[str, ...] = MODULE, **settings: object):
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *program,
        *arguments,
        env=environment(**settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def line_with(stream: asyncio.StreamReader, words: str) -> str:
    while line := (await stream.readline()).decode():
        if words in line:
            return line
    raise AssertionError(f"the process ended without saying {words!r}")


async def test_the_process_serves_after_its_warm_up_and_stops_when_told(weights, tmp_path) -> None:
    (metrics_port,) = free_ports(1)
    async with process(
        model=weights, activation="quick_gelu", metrics_listen=f"127.0.0.1:{metrics_port}"
    ) as child:
        port = int((await line_with(child.stderr, "listening on")).rpartition(":")[2])
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            seen = []
            watch = health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(service=SERVICE), timeout=60
            )
            async for answer in watch:
                seen.append(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    break
            assert seen[-1] == "SERVING"
            assert set(seen[:-1]) <= {"NOT_SERVING"}
            watch.cancel()
            assert SERVICE in await reflected_services(channel)
            stub = encoder_pb2_grpc.EncoderStub(channel)
            response = await stub.EncodeTexts(texts("a dog"), timeout=20)
            assert len(response.results[0].embedding.values) == DIMENSION
        metrics = await asyncio.to_thread(scrape, metrics_port)
        assert 'glimpse_encoder_texts_total{source="cache"} 0.0' in metrics
        assert 'glimpse_encoder_items_total{lane="bulk"} 16.0' in metrics, "the warm-up's images"
        child.send_signal(signal.SIGTERM)
        assert await child.wait() == 0


async def test_a_process_whose_device_is_lost_stops_with_exit_code_1(weights) -> None:
    async with process(program=("-c", DOOMED), model=weights, activation="quick_gelu") as child:
        port = int((await line_with(child.stderr, "listening on")).rpartition(":")[2])
        await line_with(child.stderr, "serving tiny")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = encoder_pb2_grpc.EncoderStub(channel)
            response = await stub.EncodeTexts(texts("a dog"), timeout=20)
            assert response.results[0].error.code == code_pb2.UNAVAILABLE
        assert await child.wait() == 1


async def reflected_services(channel: grpc.aio.Channel) -> list[str]:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async for answer in stub.ServerReflectionInfo(iter([request])):
        return [service.name for service in answer.list_services_response.service]
    return []


async def test_help_prints_every_setting_without_loading_a_model() -> None:
    async with process("--help", model="not there") as child:
        stdout, _ = await child.communicate()
    assert child.returncode == 0
    for name in EncoderSettings.model_fields:
        assert f"ENCODER_{name.upper()}" in stdout.decode()
