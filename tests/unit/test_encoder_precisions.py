"""Reduced precisions against fp32: the same vectors for photographs and texts, the same neighbours.

That fp32 is openai/CLIP's own function, test_encoder_model.py says. Each path that hardware.py may
choose is taken on every machine, as far as its processor can: what is left out on one that lacks
the instructions, EIGHT_BITS and FAST_BF16 say.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.recall import neighbours_kept
from glimpse.pictures.preprocess import decode
from glimpse.pictures.preprocessing import Preprocessing
from services.encoder import checkpoint as checkpoints
from services.encoder import precisions
from services.encoder.checkpoint import Checkpoint
from services.encoder.download import BUNDLED
from services.encoder.drawn_pictures import draw
from services.encoder.hardware import PrecisionUnusable, cpu_has_bf16, cpu_has_int8
from services.encoder.int8_check import Agreement, Reference, in_int8, reference
from services.encoder.int8_linear import Int8Linear, Int8Product, fit, round_to_int8, to_int8
from services.encoder.main import load_model
from services.encoder.model import ClipModel
from services.encoder.precisions import check_agreement
from services.encoder.settings import EncoderSettings
from services.encoder.weights import Weights
from tests import photographs
from tests.clip_models import TINY, TINY_RESNET, VIT_B_32, read, saved

# What the processor says it has, and by that the bits that an int8 layer's activations get. Eight
# bits can be computed everywhere, but without the instructions pairs of products are added in 16
# bits: what does not fit there is cut off, and a model's vectors are others.
FLAGS_OF_BITS = {7: "", 8: "avx512_vnni"}
BITS = [7, 8]
EIGHT_BITS = pytest.mark.skipif(
    not cpu_has_int8(), reason="without dot products of int8, what 8 bits give may not fit in 16"
)
BITS_OF_MODELS = [7, pytest.param(8, marks=EIGHT_BITS)]

# Without the instructions, torch computes the same in bf16, up to a hundred times slower: fast
# enough for a few pictures and the bundled, small model.
FAST_BF16 = pytest.mark.skipif(not cpu_has_bf16(), reason="this CPU has no bf16 instructions")

TEXTS = [" ".join(["dog"] * count) for count in range(1, 78, 4)]
MAX_PIXELS = 50_000_000


@cache
def bundled() -> Checkpoint:
    return checkpoints.read(BUNDLED)


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
    return np.stack(
        [decode(file.read_bytes(), Preprocessing(side), MAX_PIXELS).pixels for file in files]
    )


def encode(model: ClipModel) -> NDArray[np.float32]:
    """The vectors of photographs, then of texts of 1 to 77 tokens."""
    pixels = photos(model.shape.image_size)
    assert len(pixels) >= len(photographs.carried())
    parts = [pixels[start : start + 50] for start in range(0, len(pixels), 50)]
    images = [model.encode_pixels(part) for part in parts]
    return np.concatenate([*images, model.encode_texts(TEXTS)[0]])


def cosines(ours: NDArray[np.float32], exact: NDArray[np.float32]) -> NDArray[np.float32]:
    return (ours * exact).sum(axis=1)


def at_least(bits: int) -> float:
    """The cosine that vectors of an int8 model have to those in fp32."""
    return {7: 0.998, 8: 0.999}[bits]


@cache
def bundled_vectors() -> NDArray[np.float32]:
    return encode(ClipModel(bundled(), "cpu", "fp32"))


@pytest.fixture(scope="module")
def vit_b_32_vectors(vit_b_32) -> NDArray[np.float32]:
    return encode(ClipModel(vit_b_32, "cpu", "fp32"))


@pytest.fixture(scope="module")
def vit_b_32_reference(vit_b_32) -> Reference:
    return reference(vit_b_32)


@cache
def bundled_reference() -> Reference:
    return reference(bundled())


def test_a_layer_at_a_time_computes_what_the_whole_model_does() -> None:
    exact = bundled_reference()
    images = ClipModel(bundled(), "cpu", "fp32").encode_pixels(exact.pictures)
    assert np.abs(exact.vectors[0] - images).max() < 1e-5


@pytest.mark.parametrize("bits", BITS_OF_MODELS)
def test_photographs_and_texts_of_1_to_77_tokens_hardly_change_in_int8(bits, processor) -> None:
    processor(FLAGS_OF_BITS[bits])
    vectors = encode(in_int8(bundled(), exact=bundled_reference())[0])
    assert cosines(vectors, bundled_vectors()).min() >= at_least(bits)


@pytest.mark.parametrize("bits", BITS_OF_MODELS)
def test_vit_b_32_hardly_changes_in_int8(
    bits, vit_b_32, vit_b_32_reference, vit_b_32_vectors, processor
) -> None:
    processor(FLAGS_OF_BITS[bits])
    vectors = encode(in_int8(vit_b_32, exact=vit_b_32_reference)[0])
    assert cosines(vectors, vit_b_32_vectors).min() >= at_least(bits)


@FAST_BF16
def test_vit_b_32_hardly_changes_in_bf16(vit_b_32, vit_b_32_vectors) -> None:
    vectors = encode(ClipModel(vit_b_32, "cpu", "bf16"))
    assert cosines(vectors, vit_b_32_vectors).min() >= 0.999


@pytest.mark.parametrize(("flags", "precision"), [("avx512_bf16", "bf16"), ("", "fp32")])
def test_auto_is_bf16_where_the_processor_has_it_and_else_fp32(flags, precision, processor) -> None:
    processor(flags)
    model = ClipModel(bundled(), "cpu", "auto")
    assert model.precision == precision
    assert cosines(encode(model), bundled_vectors()).min() >= 0.999


@FAST_BF16
def test_98_of_100_neighbours_in_a_collection_are_those_of_fp32_in_bf16() -> None:
    assert neighbours_kept("bf16") >= 0.98


@pytest.mark.parametrize("bits", BITS_OF_MODELS)
def test_98_of_100_neighbours_in_a_collection_are_those_of_fp32_in_int8(bits, processor) -> None:
    processor(FLAGS_OF_BITS[bits])
    assert neighbours_kept("int8") >= 0.98


@pytest.mark.parametrize("bits", BITS_OF_MODELS)
def test_int8_does_not_depend_on_who_shares_the_batch(bits, processor) -> None:
    processor(FLAGS_OF_BITS[bits])
    model, _ = in_int8(bundled(), exact=bundled_reference())
    pixels = photos(model.shape.image_size)  # so many that they are more than one part
    alone = np.concatenate([model.encode_pixels(pixels[i : i + 1]) for i in range(len(pixels))])
    assert np.abs(model.encode_pixels(pixels) - alone).max() < 1e-5


def whole_numbers(most: int, *shape: int) -> torch.Tensor:
    """float32 from -most to most, which each row reaches."""
    numbers = torch.randint(-most, most + 1, shape, generator=torch.Generator().manual_seed(1))
    numbers[:, 0] = most
    return numbers.float()


def int8_weight(*shape: int) -> torch.Tensor:
    """A weight that int8 holds exactly. Every other input is zero, so that no two products are
    added in 16 bits, and every processor computes exactly with 8 bits, too."""
    weight = whole_numbers(127, *shape)
    weight[:, 1::2] = 0
    return weight


def int8_linear(weight: torch.Tensor, bias: torch.Tensor) -> Int8Linear:
    return Int8Linear(to_int8(weight, bias, fit(weight, None, is_free=False)))


@pytest.mark.parametrize(("bits", "levels"), [(7, 107), (8, 127)])
def test_what_int8_holds_exactly_comes_out_exactly(bits, levels, processor) -> None:
    processor(FLAGS_OF_BITS[bits])
    weight, bias, x = int8_weight(40, 64), torch.arange(40.0), whole_numbers(levels, 5, 64)
    exact = x @ weight.T + bias
    layer = int8_linear(weight, bias)
    np.testing.assert_allclose(layer(x), exact, rtol=1e-5, atol=0.01)


@pytest.mark.parametrize("bits", BITS)
def test_rows_of_zeros_pass_an_int8_layer(bits, processor) -> None:
    processor(FLAGS_OF_BITS[bits])
    layer = int8_linear(torch.eye(64), torch.full((64,), 0.5))
    assert (layer(torch.zeros(2, 64)) == 0.5).all()


def test_a_resnet_keeps_its_image_tower_in_fp32(tmp_path) -> None:
    checkpoint = read(saved(tmp_path / "rn.pt", **TINY_RESNET), "rn")
    exact, (reduced, _) = ClipModel(checkpoint, "cpu", "fp32"), in_int8(checkpoint)
    pixels = photos(64)[:2]
    assert np.abs(reduced.encode_pixels(pixels) - exact.encode_pixels(pixels)).max() < 1e-6


def test_products_that_are_added_in_16_bits_fit_there(processor) -> None:
    """The largest that pairs of weights can be, and inputs that reach the highest level."""
    processor(FLAGS_OF_BITS[7])
    weight = torch.ones(8, 64)
    weight[4:] *= -1
    x = torch.full((3, 64), 215, dtype=torch.uint8)
    exact = 215.0 * weight.sum(1)
    assert (Int8Product(*round_to_int8(weight, 215))(x, 0) / exact - 1).abs().max() < 0.01


def without_inputs(checkpoint: Checkpoint, exact: Reference) -> Agreement:
    """Of int8 that knows nothing of what comes into its layers."""
    return in_int8(checkpoint, exact=exact._replace(inputs={}))[1]


def outlier(factor: float) -> Checkpoint:
    """The bundled model, one channel of what comes into a layer times the factor."""
    name = "visual.transformer.resblocks.2.ln_1.weight"
    weights = {**bundled().weights, name: bundled().weights[name].clone()}
    weights[name][0] *= factor
    return replace(bundled(), weights=weights)


@pytest.mark.parametrize("bits", BITS_OF_MODELS)
def test_the_check_refuses_what_outliers_ruin_and_the_more_the_larger_they_are(
    bits, processor
) -> None:
    processor(FLAGS_OF_BITS[bits])
    found = [without_inputs(ruined, reference(ruined)) for ruined in map(outlier, (1, 30, 3_000))]
    kept = [agreement.neighbours for agreement in found]
    assert kept == sorted(kept, reverse=True)
    for agreement in found[1:]:
        with pytest.raises(PrecisionUnusable, match=r"ENCODER_MIN_INT8_NEIGHBOURS is 0\.98"):
            check_agreement(agreement, EncoderSettings())


@pytest.mark.parametrize("bits", BITS_OF_MODELS)
def test_int8_that_knows_what_comes_in_takes_outliers(bits, processor) -> None:
    processor(FLAGS_OF_BITS[bits])
    checkpoint = outlier(30)
    exact = reference(checkpoint)
    served = in_int8(checkpoint, exact=exact)[1]
    assert served.neighbours > without_inputs(checkpoint, exact).neighbours + 0.01
    assert served.neighbours > 0.96


def test_drawn_pictures_are_always_the_same_and_none_like_another() -> None:
    pictures = [draw(number, 32) for number in range(8)]
    assert all(np.array_equal(draw(n, 32), picture) for n, picture in enumerate(pictures))
    flat = np.stack(pictures).reshape(8, -1).astype(float)
    assert flat.std(1).min() > 5
    assert np.corrcoef(flat)[~np.eye(8, dtype=bool)].max() < 0.9


@pytest.mark.parametrize("bits", BITS_OF_MODELS)
def test_what_the_check_found_is_what_get_model_tells(bits, processor) -> None:
    processor(FLAGS_OF_BITS[bits])
    _, description = load_model(EncoderSettings(device="cpu", precision="int8"))
    agreement = in_int8(bundled(), exact=bundled_reference())[1]
    assert description.precision == "int8"
    assert description.int8_cosine == pytest.approx(agreement.least_cosine, abs=1e-6)
    assert description.int8_neighbours == pytest.approx(agreement.neighbours, abs=1e-6)
    assert 0.99 < description.int8_cosine < 1


@pytest.mark.parametrize(
    ("flags", "settings", "least_width", "precision", "why"),
    [
        ("", {}, 0, "int8", "auto: int8, the fastest here, keeps 0.9"),
        ("", {"min_int8_neighbours": 1}, 0, "fp32", "ENCODER_MIN_INT8_NEIGHBOURS is 1"),
        ("", {"min_int8_cosine": 1}, 0, "fp32", "ENCODER_MIN_INT8_COSINE is 1"),
        ("", {}, 512, "fp32", "auto: fp32, since int8 makes a model of this shape no faster"),
        ("avx512_bf16", {}, 512, "bf16", "auto: bf16, since"),
    ],
)
def test_auto_is_the_fastest_that_agrees_and_says_why(
    flags, settings, least_width, precision, why, processor, monkeypatch, caplog
) -> None:
    processor(flags)
    monkeypatch.setattr(precisions, "_LEAST_INT8_WIDTH", least_width)
    with caplog.at_level("INFO", logger=precisions.__name__):
        model, agreement = precisions.load(bundled(), EncoderSettings(device="cpu", **settings))
    assert (model.precision, agreement is None) == (precision, precision != "int8")
    (line,) = caplog.messages
    assert why in line


def test_a_table_of_tokens_is_in_fp16_unless_that_cannot_hold_it(tmp_path) -> None:
    checkpoint, name = read(saved(tmp_path / "tiny.pt", **TINY)), "token_embedding.weight"
    large = replace(
        checkpoint, weights={**checkpoint.weights, name: checkpoint.weights[name] * 1e7}
    )
    cpu = torch.device("cpu")
    assert Weights(checkpoint, cpu, "int8").table(name).dtype == torch.float16
    assert Weights(checkpoint, cpu, "fp32").table(name).dtype == torch.float32
    assert torch.equal(Weights(large, cpu, "int8").table(name), large.weights[name])
