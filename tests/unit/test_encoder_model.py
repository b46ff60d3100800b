"""The forward pass against openai/CLIP's own modules: the same vectors, whatever the batch."""

from __future__ import annotations

import gc
import itertools
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from services.common.server import StartFailure
from services.encoder import checkpoint as checkpoints
from services.encoder import openai_clip
from services.encoder.checkpoint import Checkpoint, CheckpointError
from services.encoder.device import DeviceLost
from services.encoder.download import BUNDLED
from services.encoder.main import load_model
from services.encoder.model import ClipModel
from services.encoder.settings import EncoderSettings
from services.encoder.towers import _fillers
from tests.clip_models import TINY, TINY_RESNET, VIT_B_32, read, saved, untrained

TEXTS = [
    "a white dog",
    "x",
    "a red bicycle leaning against an old brick wall in the rain, seen from above",
    "ein weißer Hund & eine Katze &amp; 犬 🐕",
    "word " * 200,
    "a dog<|endoftext|>this is never read",
]
RANDOM = np.random.default_rng(5)


def as_checkpoint(model: torch.nn.Module, tmp_path) -> Checkpoint:
    torch.save(model.state_dict(), tmp_path / "model.pt")
    return read(tmp_path / "model.pt", "model")


def noise(count: int, size: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@torch.inference_mode()
def reference_texts(clip: torch.nn.Module, texts: list[str]) -> np.ndarray:
    """CLIP's encode_text at its full context length, on tokens made as clip.tokenize makes them."""
    table = torch.zeros(len(texts), 77, dtype=torch.long)
    for row, text in enumerate(texts):
        ids = [*[49406, *openai_clip.tokenizer().encode(text)][:76], 49407]
        table[row, : len(ids)] = torch.tensor(ids)
    return F.normalize(clip.encode_text(table), dim=-1).numpy()


@torch.inference_mode()
def reference_images(clip: torch.nn.Module, pixels: np.ndarray) -> np.ndarray:
    """CLIP's encode_image after ToTensor and Normalize."""
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return F.normalize(clip.encode_image((x - mean) / deviation), dim=-1).numpy()


@pytest.mark.parametrize("hyper_parameters", [TINY, VIT_B_32], ids=["tiny", "ViT-B/32"])
def test_fp32_equals_clip_within_1e4(hyper_parameters, tmp_path) -> None:
    clip = untrained(3, **hyper_parameters)
    model = ClipModel(as_checkpoint(clip, tmp_path), "cpu", "fp32")
    pixels = noise(3, model.shape.image_size)
    vectors, truncated = model.encode_texts(TEXTS)
    assert vectors.dtype == np.float32
    assert truncated == [False, False, False, False, True, False]
    assert np.abs(vectors - reference_texts(clip, TEXTS)).max() < 1e-4
    assert np.abs(model.encode_pixels(pixels) - reference_images(clip, pixels)).max() < 1e-4


def test_the_bundled_model_equals_clip_within_1e4() -> None:
    checkpoint = checkpoints.read(BUNDLED)
    clip = openai_clip.build_model(checkpoint.weights)
    model = ClipModel(checkpoint, "cpu", "fp32")
    pixels = noise(4, model.shape.image_size)
    assert np.abs(model.encode_texts(TEXTS)[0] - reference_texts(clip, TEXTS)).max() < 1e-4
    assert np.abs(model.encode_pixels(pixels) - reference_images(clip, pixels)).max() < 1e-4


def test_resnets_equal_clip(tmp_path) -> None:
    checkpoint = read(saved(tmp_path / "rn.pt", seed=2, **TINY_RESNET), "rn")
    clip = openai_clip.build_model(checkpoint.weights)
    model = ClipModel(checkpoint, "cpu", "fp32")
    pixels = noise(3, 64)
    assert np.abs(model.encode_pixels(pixels) - reference_images(clip, pixels)).max() < 1e-4
    assert np.abs(model.encode_texts(TEXTS)[0] - reference_texts(clip, TEXTS)).max() < 1e-4


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> ClipModel:
    path = tmp_path_factory.mktemp("tiny") / "tiny.pt"
    saved(path, seed=4, **(TINY | {"vision_layers": 6}))
    return ClipModel(read(path, "tiny"), "cpu", "fp32")


def test_a_vector_does_not_depend_on_who_shares_its_batch(tiny) -> None:
    texts = TEXTS * 8  # so many are several parts on a CPU, as 50 images of 17 rows each are
    alone = np.concatenate([tiny.encode_texts([text])[0] for text in texts])
    for count in (2, 15, 48):
        assert np.abs(tiny.encode_texts(texts[:count])[0] - alone[:count]).max() < 1e-5
    pixels = noise(50, 32)
    alone = np.concatenate([tiny.encode_pixels(pixels[i : i + 1]) for i in range(50)])
    for count in (2, 7, 50):
        assert np.abs(tiny.encode_pixels(pixels[:count]) - alone[:count]).max() < 1e-5


def test_pictures_and_texts_that_are_let_in_between_layers_disturb_nothing(tiny) -> None:
    pixels, text = noise(50, 32), TEXTS[:1]
    alone, alone_text = tiny.encode_pixels(pixels), tiny.encode_texts(text)[0]
    off = []

    def let_in() -> None:  # by several threads at once
        off.append(np.abs(tiny.encode_pixels(pixels[:9]) - alone[:9]).max())
        off.append(np.abs(tiny.encode_texts(text)[0] - alone_text).max())

    off.append(np.abs(tiny.encode_pixels(pixels, let_in) - alone).max())
    assert len(off) > 2
    assert max(off) < 1e-5


def test_an_image_may_be_more_than_a_part_should_hold(tmp_path) -> None:
    path = saved(tmp_path / "fine.pt", seed=4, **(TINY | {"image_resolution": 160}))
    model = ClipModel(read(path, "fine"), "cpu", "fp32")
    pixels = noise(13, 160)  # of 401 rows each
    alone = np.concatenate([model.encode_pixels(pixels[i : i + 1]) for i in range(13)])
    assert np.abs(model.encode_pixels(pixels) - alone).max() < 1e-5


def test_vectors_are_unit_and_black_and_white_are_pictures_too(tiny) -> None:
    pixels = np.stack([np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)])
    norms = np.linalg.norm(tiny.encode_pixels(pixels), axis=1)
    assert np.abs(norms - 1).max() < 1e-5


def test_texts_of_1_to_77_tokens_equal_clip(tmp_path) -> None:
    clip = untrained(6)
    model = ClipModel(as_checkpoint(clip, tmp_path), "cpu", "fp32")
    texts = [" ".join(["dog"] * n) for n in range(1, 78, 4)]
    vectors, truncated = model.encode_texts(texts)
    assert np.abs(vectors - reference_texts(clip, texts)).max() < 1e-4
    assert truncated == [n > 75 for n in range(1, 78, 4)]


def test_work_is_let_in_before_every_other_layer(tiny) -> None:
    texts: list[np.ndarray] = []
    pixels = noise(2, 32)
    undisturbed = tiny.encode_pixels(pixels)
    vectors = tiny.encode_pixels(pixels, lambda: texts.append(tiny.encode_texts(["a dog"])[0]))
    assert len(texts) == 3  # of 6 layers, the first included
    assert (vectors == undisturbed).all()
    assert (texts[0] == tiny.encode_texts(["a dog"])[0]).all()


def test_work_is_let_in_by_every_part_of_a_batch(tiny) -> None:
    texts: list[np.ndarray] = []
    pixels = noise(50, 32)
    undisturbed = tiny.encode_pixels(pixels)
    vectors = tiny.encode_pixels(pixels, lambda: texts.append(tiny.encode_texts(TEXTS * 8)[0]))
    assert len(texts) >= 2 * 3  # the parts follow from the CPUs; of one alone, 50 are too many
    assert (vectors == undisturbed).all()
    assert np.abs(np.stack(texts) - tiny.encode_texts(TEXTS * 8)[0]).max() < 1e-5


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_model_does_not_keep_the_weights_as_they_were_read(precision, tmp_path) -> None:
    checkpoint = read(saved(tmp_path / "tiny.pt", seed=4, **TINY))
    name = "visual.transformer.resblocks.0.mlp.c_fc.weight"
    as_read = weakref.ref(checkpoint.weights[name])
    model = ClipModel(checkpoint, "cpu", precision)
    del checkpoint
    gc.collect()
    assert as_read() is None
    assert model.encode_texts(["a dog"])[1] == [False]


def test_a_device_that_is_not_there_is_refused(tmp_path) -> None:
    checkpoint = read(saved(tmp_path / "tiny.pt"), "tiny")
    with pytest.raises(ValueError, match="cuda:99"):
        ClipModel(checkpoint, "cuda:99")
    with pytest.raises(ValueError, match="fp16 needs a GPU"):
        ClipModel(checkpoint, "cpu", "fp16")


@pytest.mark.parametrize(
    ("settings", "raised", "line"),
    [
        ({"device": "cuda:99"}, None, r"ENCODER_DEVICE: cuda:99 cannot be used: .+; set .*cpu"),
        ({"device": "cpu", "precision": "fp16"}, None, "ENCODER_PRECISION: fp16 needs a GPU"),
        (
            {"device": "cpu"},
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB\nmore"),
            "ENCODER_DEVICE: too little memory for the model there: CUDA out of memory. Tried to "
            "allocate 2.00 MiB; free some, or set another: cuda:N, cpu",
        ),
        (
            {"device": "cpu"},
            torch.AcceleratorError("CUDA error: device kernel image is invalid\nmore"),
            "ENCODER_DEVICE: the model does not run there: CUDA error: device kernel image is "
            "invalid; look at its driver, or set another: cuda:N, cpu",
        ),
        (
            {"device": "cpu"},
            RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate`"),
            "ENCODER_DEVICE: the model does not run there: CUDA error: CUBLAS_STATUS_NOT_INIT",
        ),
    ],
    ids=["no such device", "no such precision", "no memory", "driver", "cublas"],
)
def test_a_device_that_fails_at_the_start_is_one_line_with_what_to_set(
    settings, raised, line, tmp_path, monkeypatch
) -> None:
    if raised is not None:

        def fail(*_: object) -> None:
            raise raised

        monkeypatch.setattr("services.encoder.model.TextTower", fail)
    model = str(saved(tmp_path / "tiny.pt"))
    with pytest.raises(StartFailure, match=line) as caught:
        load_model(EncoderSettings(model=model, activation="quick_gelu", **settings))
    assert "\n" not in str(caught.value)


def test_a_missing_weight_is_named(tmp_path) -> None:
    weights = dict(untrained().state_dict())
    del weights["visual.transformer.resblocks.1.mlp.c_fc.bias"]
    torch.save(weights, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match=r"resblocks\.1\.mlp\.c_fc\.bias"):
        read(tmp_path / "odd.pt", "odd")


@pytest.mark.parametrize(
    ("shape", "value", "name"),
    [
        (TINY, float("nan"), "ln_final.bias"),
        (TINY, float("inf"), "visual.conv1.weight"),
        (TINY_RESNET, float("inf"), "visual.conv1.weight"),
    ],
)
def test_a_number_that_is_not_finite_is_named(shape, value, name, tmp_path) -> None:
    weights = dict(untrained(**shape).state_dict())
    weights[name].view(-1)[-1:].fill_(value)
    torch.save(weights, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match=rf"odd: {name} holds a number that is not finite"):
        ClipModel(read(tmp_path / "odd.pt", "odd"), "cpu", "fp32")


@pytest.mark.parametrize("scale", [0, 1e-38, 1e30], ids=["zeros", "underflow", "overflow"])
def test_a_vector_without_a_direction_is_an_error_and_no_vector(scale, tmp_path) -> None:
    weights = dict(untrained().state_dict())
    weights["text_projection"] = weights["text_projection"] * scale
    torch.save(weights, tmp_path / "odd.pt")
    with pytest.raises(FloatingPointError, match="no direction"):
        ClipModel(read(tmp_path / "odd.pt", "odd"), "cpu").encode_texts(["a dog"])


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), "holds a number that is not finite"),
        (0.0, "vectors are zero or not finite in"),
    ],
)
def test_broken_weights_end_the_start_with_one_line(precision, value, words, tmp_path) -> None:
    weights = dict(untrained().state_dict())
    weights["visual.proj"] = torch.full_like(weights["visual.proj"], value)
    torch.save(weights, tmp_path / "broken.pt")
    settings = EncoderSettings(
        model=str(tmp_path / "broken.pt"),
        activation="quick_gelu",
        device="cpu",
        precision=precision,
    )
    with pytest.raises(StartFailure, match=words) as caught:
        load_model(settings)
    assert str(caught.value).startswith("ENCODER_MODEL: ")
    assert "\n" not in str(caught.value)


def test_weights_by_which_all_texts_are_the_same_are_refused(tmp_path) -> None:
    weights = dict(untrained().state_dict())
    weights["ln_final.weight"] = torch.zeros_like(weights["ln_final.weight"])
    weights["ln_final.bias"] = torch.ones_like(weights["ln_final.bias"])
    torch.save(weights, tmp_path / "same.pt")
    settings = EncoderSettings(
        model=str(tmp_path / "same.pt"), activation="quick_gelu", device="cpu", precision="fp32"
    )
    with pytest.raises(StartFailure, match="all texts have the same vector"):
        load_model(settings)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), MemoryError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError),
        (torch.AcceleratorError("an illegal memory access", 700), DeviceLost),
        (RuntimeError("shapes do not fit"), RuntimeError),
    ],
)
def test_errors_of_the_device_get_the_names_that_the_batcher_knows(tiny, raised, expected) -> None:
    def fail() -> None:
        raise raised

    with pytest.raises(expected):
        tiny.encode_pixels(noise(1, 32), fail)


def test_packed_texts_have_few_numbers_of_rows_and_no_filler_is_longer_than_a_text():
    seen = set()
    for count, length in itertools.product(range(1, 65), range(3, 78)):
        fillers = _fillers([length] * count)
        rows = count * length + sum(fillers)
        assert rows <= count * length * 9 / 8
        assert max(fillers, default=0) <= length
        seen.add(rows)
    assert len(seen) <= 8 * 13
