"""Reduced precisions against fp32: the same vectors for photographs and texts, the same neighbours.

That fp32 is openai/CLIP's own function, test_encoder_model.py says. A bf16 that the processor only
emulates is a hundred times slower: there it is tried on the bundled, small model alone.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.recall import neighbours_kept
from services.common.preprocess import decode
from services.encoder import linear, weights
from services.encoder.checkpoint import Checkpoint, read
from services.encoder.download import DEMO_MODEL
from services.encoder.hardware import cpu_has_bf16
from services.encoder.int8_check import least_cosine
from services.encoder.main import load_model
from services.encoder.model import ClipModel
from services.encoder.settings import EncoderSettings
from tests import photographs
from tests.clip_models import TINY_RESNET, VIT_B_32, saved

BF16 = pytest.param(
    "bf16", marks=pytest.mark.skipif(not cpu_has_bf16(), reason="this CPU has no bf16 instructions")
)
TEXTS = [" ".join(["dog"] * count) for count in range(1, 78, 4)]
MAX_PIXELS = 50_000_000


@pytest.fixture(scope="module")
def bundled() -> Checkpoint:
    return read(DEMO_MODEL, "demo")


@pytest.fixture(scope="module")
def vit_b_32(tmp_path_factory) -> Checkpoint:
    path = saved(tmp_path_factory.mktemp("vit") / "vit.pt", seed=5, **VIT_B_32)
    return read(path, "ViT-B/32")


@cache
def photos(side: int) -> NDArray[np.uint8]:
    """uint8 [N, side, side, 3]: a dozen photographs, and a dozen more where there is a folder."""
    folder = photographs.folder()
    more = sorted(folder.glob("*.JPEG")) if folder else []
    files = [*photographs.carried(), *more[:: max(len(more) // 12, 1)]]
    return np.stack([decode(file.read_bytes(), side, MAX_PIXELS).pixels for file in files])


def encode(model: ClipModel, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    parts = [pixels[start : start + 50] for start in range(0, len(pixels), 50)]
    return np.concatenate([model.encode_pixels(part) for part in parts])


def cosines(ours: NDArray[np.float32], exact: NDArray[np.float32]) -> NDArray[np.float32]:
    return (ours * exact).sum(axis=1)


@pytest.mark.parametrize("precision", [BF16, "int8"])
@pytest.mark.parametrize("name", ["bundled", "vit_b_32"])
def test_photographs_and_texts_of_1_to_77_tokens_stay_within_cosine_0_999(
    name, precision, request
) -> None:
    checkpoint = request.getfixturevalue(name)
    exact, reduced = (ClipModel(checkpoint, "cpu", each) for each in ("fp32", precision))
    assert reduced.precision == precision
    pixels = photos(checkpoint.shape.image_size)
    assert len(pixels) >= len(photographs.carried())
    assert cosines(encode(reduced, pixels), encode(exact, pixels)).min() >= 0.999
    theirs = exact.encode_texts(TEXTS)[0]
    assert cosines(reduced.encode_texts(TEXTS)[0], theirs).min() >= 0.999


@pytest.mark.parametrize("precision", [BF16, "int8"])
def test_98_of_100_neighbours_in_a_collection_are_those_of_fp32(precision) -> None:
    assert neighbours_kept(precision) >= 0.98


def test_int8_does_not_depend_on_who_shares_the_batch(bundled) -> None:
    model = ClipModel(bundled, "cpu", "int8")
    pixels = photos(bundled.shape.image_size)  # so many that they are more than one part
    alone = np.concatenate([model.encode_pixels(pixels[i : i + 1]) for i in range(len(pixels))])
    assert np.abs(model.encode_pixels(pixels) - alone).max() < 1e-5


def test_int8_needs_no_dot_products_of_int8(bundled, monkeypatch) -> None:
    """Without them, activations have one bit less."""
    for module in (linear, weights):
        monkeypatch.setattr(module, "cpu_has_int8", lambda: False)
    exact, reduced = (ClipModel(bundled, "cpu", each) for each in ("fp32", "int8"))
    pixels = photos(bundled.shape.image_size)
    assert cosines(encode(reduced, pixels), encode(exact, pixels)).min() >= 0.99


def test_rows_of_zeros_pass_an_int8_layer() -> None:
    layer = linear.Int8Linear(torch.eye(64), torch.full((64,), 0.5))
    assert (layer(torch.zeros(2, 64)) == 0.5).all()


def test_a_resnet_keeps_its_image_tower_in_fp32(tmp_path) -> None:
    checkpoint = read(saved(tmp_path / "rn.pt", **TINY_RESNET), "rn")
    exact, reduced = (ClipModel(checkpoint, "cpu", each) for each in ("fp32", "int8"))
    pixels = photos(64)[:2]
    assert np.abs(reduced.encode_pixels(pixels) - exact.encode_pixels(pixels)).max() < 1e-6


def test_the_start_up_check_is_what_get_model_tells(bundled) -> None:
    model, description = load_model(EncoderSettings(device="cpu", precision="int8"))
    assert description.precision == "int8"
    exact = ClipModel(bundled, "cpu", "fp32")
    assert description.int8_cosine == pytest.approx(least_cosine(model, exact), abs=1e-6)
    assert 0.99 < description.int8_cosine < 1


def test_the_check_sees_a_layer_that_int8_ruins(bundled) -> None:
    """One channel a thousand times the others leaves no levels for them, as outliers do."""
    ruined = dict(bundled.weights)
    name = "visual.transformer.resblocks.2.ln_1.weight"
    ruined[name] = ruined[name].clone()
    ruined[name][0] *= 3_000
    checkpoint = Checkpoint("ruined", ruined, bundled.shape, bundled.sha256)
    exact, reduced = (ClipModel(checkpoint, "cpu", each) for each in ("fp32", "int8"))
    assert least_cosine(reduced, exact) < 0.99
