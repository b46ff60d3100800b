"""Recorded towers: batches of any size from recordings of some, and on a GPU what CLIP computes.

Without a GPU, a function in the place of CUDA's recordings computes what they would replay.
"""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from services.encoder import model as model_module
from services.encoder import openai_clip
from services.encoder.checkpoint import Checkpoint
from services.encoder.model import ClipModel
from tests.clip_models import TINY, TINY_RESNET, VIT_B_32, read, saved
from tests.recordings import AtOnce

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
WORDS = itertools.cycle(["dog", "cat", "red", "bicycle", "rain"])
RANDOM = np.random.default_rng(8)


@pytest.fixture
def tiny(tmp_path) -> Checkpoint:
    return read(saved(tmp_path / "tiny.pt", seed=4, **TINY), "tiny")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
def recorded(request, tiny, monkeypatch) -> ClipModel:
    if request.param == "cpu":
        monkeypatch.setattr(model_module, "CudaGraphs", AtOnce)
    model = ClipModel(tiny, request.param, "fp32")
    model._recorded = model._record()
    return model


def texts(count: int, most_words: int) -> list[str]:
    lengths = RANDOM.integers(1, most_words, count)
    return [" ".join(itertools.islice(WORDS, int(length))) for length in lengths]


def noise(count: int, size: int = 32) -> np.ndarray:
    return RANDOM.integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize(("count", "most_words"), [(1, 3), (3, 20), (64, 80), (65, 10), (150, 90)])
def test_any_number_of_texts_of_any_length(recorded, tiny, count, most_words) -> None:
    some = texts(count, most_words)
    exact = ClipModel(tiny, "cpu", "fp32").encode_texts(some)[0]
    for _ in range(2):  # what is left in a table of the first time does not matter
        assert np.abs(recorded.encode_texts(some)[0] - exact).max() < 1e-4
    assert np.abs(recorded.encode_texts(some[:1])[0] - exact[:1]).max() < 1e-4


@pytest.mark.parametrize("count", [1, 3, 64, 65, 200])
def test_any_number_of_images(recorded, tiny, count) -> None:
    pixels = noise(count)
    exact = ClipModel(tiny, "cpu", "fp32").encode_pixels(pixels)
    assert np.abs(recorded.encode_pixels(list(pixels)) - exact).max() < 1e-4
    assert np.abs(recorded.encode_pixels(pixels[::-1]) - exact[::-1]).max() < 1e-4


def test_texts_are_let_in_before_each_part_and_while_the_gpu_computes(recorded, tiny) -> None:
    pixels, let_in = noise(130), []
    vectors = recorded.encode_pixels(
        pixels, lambda: let_in.append(recorded.encode_texts(["a dog"])[0])
    )
    exact = ClipModel(tiny, "cpu", "fp32")
    assert len(let_in) >= 3
    assert np.abs(vectors - exact.encode_pixels(pixels)).max() < 1e-4
    assert np.abs(np.concatenate(let_in) - exact.encode_texts(["a dog"])[0]).max() < 1e-4


def test_a_text_is_let_in_while_the_gpu_computes_the_last_part(tiny, monkeypatch) -> None:
    monkeypatch.setattr(model_module, "CudaGraphs", AtOnce)
    model, let_in = ClipModel(tiny, "cpu", "fp32"), []
    model._recorded = model._record()
    model.encode_pixels(noise(3), lambda: let_in.append(time.monotonic()))
    assert len(let_in) == 3  # before its only part, and at the two looks that found it at work


@NEEDS_GPU
def test_a_resnet_on_a_gpu_equals_clip(tmp_path) -> None:
    checkpoint = read(saved(tmp_path / "rn.pt", seed=2, **TINY_RESNET), "rn")
    pixels = noise(5, 64)
    exact = ClipModel(checkpoint, "cpu", "fp32").encode_pixels(pixels)
    assert np.abs(ClipModel(checkpoint, "cuda", "fp32").encode_pixels(pixels) - exact).max() < 1e-4
    half = ClipModel(checkpoint, "cuda", "fp16").encode_pixels(pixels)
    assert (half * exact).sum(axis=1).min() >= 0.999


@NEEDS_GPU
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_vit_b_32_on_a_gpu_equals_clip(precision, tmp_path) -> None:
    checkpoint = read(saved(tmp_path / "vit.pt", seed=3, **VIT_B_32), "vit")
    clip = openai_clip.build_model(checkpoint.weights)
    model = ClipModel(checkpoint, "cuda", precision)
    some, pixels = texts(20, 80), noise(20, 224)
    ours = np.concatenate([model.encode_texts(some)[0], model.encode_pixels(pixels)])
    exact = np.concatenate([clip_texts(clip, model, some), clip_images(clip, pixels)])
    assert (ours * exact).sum(axis=1).min() >= 0.999
    if precision == "fp32":
        assert np.abs(ours - exact).max() < 1e-4


@torch.inference_mode()
def clip_texts(clip: torch.nn.Module, model: ClipModel, texts: list[str]) -> np.ndarray:
    table = torch.zeros(len(texts), 77, dtype=torch.long)
    for row, text in enumerate(texts):
        ids = torch.from_numpy(model.tokenizer.encode(text).ids)
        table[row, : len(ids)] = ids
    return F.normalize(clip.encode_text(table), dim=-1).numpy()


@torch.inference_mode()
def clip_images(clip: torch.nn.Module, pixels: np.ndarray) -> np.ndarray:
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return F.normalize(clip.encode_image((x - mean) / deviation), dim=-1).numpy()
