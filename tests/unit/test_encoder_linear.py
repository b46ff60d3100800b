"""Linear layers: each kind gives the same, whatever comes behind its product and for how many rows.

How near int8 comes on a model, test_encoder_precisions.py says.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from services.encoder.int8_linear import Int8Linear, fit, to_int8
from services.encoder.linear import (
    ACTIVATIONS,
    NO_ACTIVATION,
    FloatLinear,
    PackedLinear,
)
from services.encoder.model import ClipModel
from tests.clip_models import TINY, read, saved


def int8_linear(weight, bias, activation=NO_ACTIVATION) -> Int8Linear:
    return Int8Linear(to_int8(weight, bias, fit(weight, None, is_free=False)), activation)


# Each kind, and how far it may be off: int8 keeps two digits.
KINDS = [
    (FloatLinear, 1e-5),
    pytest.param(
        PackedLinear,
        1e-5,
        marks=pytest.mark.skipif(
            not PackedLinear.is_possible(torch.float32), reason="this torch has no oneDNN"
        ),
    ),
    (int8_linear, 0.2),
]
FORMULAS = {
    "none": lambda x: x,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
}


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("rows", [1, 7, 300])
@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize(("kind", "off"), KINDS)
def test_each_kind_of_layer_gives_the_same(kind, off, name, rows) -> None:
    weight, bias, x = numbers(40, 24) / 5, numbers(40), numbers(rows, 24)
    activation = ACTIVATIONS.get(name, NO_ACTIVATION)
    layer = kind(weight * activation.scale, bias * activation.scale, activation)
    with torch.inference_mode():
        found = layer(x.clone()) / activation.scale
    assert (found - FORMULAS[name](x @ weight.T + bias)).abs().max() < off


@pytest.mark.parametrize(("kind", "off"), KINDS)
def test_a_layer_adds_to_what_it_is_given_and_leaves_that(kind, off) -> None:
    weight, bias, x, onto = numbers(24, 24) / 5, numbers(24), numbers(7, 24), numbers(7, 24) * 3
    given = onto.clone()
    with torch.inference_mode():
        found = kind(weight, bias)(x.clone(), given)
    assert (found - (onto + x @ weight.T + bias)).abs().max() < off
    assert torch.equal(given, onto)


def test_a_torch_without_onednn_computes_the_same(tmp_path, monkeypatch) -> None:
    checkpoint = read(saved(tmp_path / "tiny.pt", seed=4, **TINY))
    pixels = np.random.default_rng(2).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)

    def vectors() -> np.ndarray:
        model = ClipModel(checkpoint, "cpu", "fp32")
        return np.concatenate([model.encode_pixels(pixels), model.encode_texts(["a dog", "x"])[0]])

    packed = vectors()
    monkeypatch.setattr(PackedLinear, "is_possible", lambda dtype: False)
    assert np.abs(vectors() - packed).max() < 1e-5
