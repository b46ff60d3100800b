"""Models of Hugging Face, OpenCLIP and SigLIP against their own libraries, which wrote the folders.

That bare files are openai/CLIP's own function, test_encoder_model.py says.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from glimpse.pictures.preprocess import decode
from services.encoder import checkpoint
from services.encoder import model as model_module
from services.encoder.checkpoint import Checkpoint, CheckpointError
from services.encoder.download import WeightsFile
from services.encoder.hardware import cpu_has_int8
from services.encoder.int8_check import in_int8
from services.encoder.model import ClipModel
from tests import photographs
from tests.model_families import SENTENCES, Family, hugging_face_clip, open_clip_clip, siglip
from tests.recordings import AtOnce

MAKERS: dict[str, Callable[[Path], Family]] = {
    "hugging-face": hugging_face_clip,
    "open-clip": open_clip_clip,
    "siglip": siglip,
}
MAX_PIXELS = 50_000_000
# What tests.photographs.carried() show, in its order; and what they do not.
SHOWN = [
    "an astronaut",
    "a man with a camera on a tripod",
    "a cat",
    "a cup of coffee",
    "old coins",
    "galaxies in deep space",
    "the surface of the moon",
    "a motorcycle",
    "the retina of an eye",
    "a rocket",
    "a Chinese temple",
    "a flower",
]
NOT_SHOWN = [
    "a dog",
    "a bus",
    "a beach",
    "a plate of food",
    "a bridge",
    "a piano",
    "a horse",
    "snow",
]
TEXTS = [
    *SENTENCES,
    "x",
    "A White DOG İstanbul ΣΑΣ, it's the dog's!",
    "fish &amp; chips, &lt;b&gt;bold&lt;/b&gt; &eacute;clair",
    "café crème brûlée; naïve coöperation; cafe\u0301",
    "🐶🐕‍🦺 👩‍👩‍👧‍👦 🇩🇪 ❤️",
    "“curly” — dashes… ﬁ ligature Ⅷ ½",
    "two  spaces\tand\na line, and the end ",
    "a dog<|endoftext|>this is never read by some <end_of_text> <eos> <pad>",
    *(" ".join(["dog"] * count) for count in (60, 61, 62, 63, 64, 74, 75, 76, 500)),
]


@pytest.fixture(scope="module", params=MAKERS)
def family(request, tmp_path_factory) -> Family:
    return MAKERS[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def model(family) -> ClipModel:
    return ClipModel(read(family.folder), "cpu", "fp32")


def read(folder: Path) -> Checkpoint:
    return checkpoint.read(WeightsFile("model", folder))


@pytest.fixture
def copied(family, tmp_path) -> Path:
    return Path(shutil.copytree(family.folder, tmp_path / "copy"))


def noise(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def least(ours: np.ndarray, exact: np.ndarray) -> float:
    return float((ours * exact).sum(axis=1).min())


def random_texts(count: int) -> list[str]:
    """Of letters that the sentences have, and of any."""
    dice, known = random.Random(3), "".join(SENTENCES)
    anything = [chr(code) for code in range(32, 0x3000) if chr(code).isprintable()]
    return [
        "".join(dice.choices(dice.choice((known, anything)), k=dice.randint(1, 40)))
        for _ in range(count)
    ]


def test_fp32_equals_the_library_within_1e4(family, model) -> None:
    pixels = noise(13, family.size)  # more than one part on a CPU
    assert np.abs(model.encode_pixels(pixels) - family.encode_pixels(pixels)).max() < 1e-4
    assert np.abs(model.encode_texts(TEXTS)[0] - family.encode_texts(TEXTS)).max() < 1e-4


def test_a_vector_does_not_depend_on_who_shares_its_batch(family, model) -> None:
    pixels = noise(7, family.size)
    alone = np.concatenate([model.encode_pixels(pixels[i : i + 1]) for i in range(7)])
    assert np.abs(model.encode_pixels(pixels) - alone).max() < 1e-5
    alone = np.concatenate([model.encode_texts([text])[0] for text in TEXTS])
    assert np.abs(model.encode_texts(TEXTS)[0] - alone).max() < 1e-5


def test_bf16_hardly_changes_vectors(family, model) -> None:
    reduced = ClipModel(read(family.folder), "cpu", "bf16")
    pixels = noise(5, family.size)
    assert least(reduced.encode_pixels(pixels), model.encode_pixels(pixels)) >= 0.999
    assert least(reduced.encode_texts(TEXTS)[0], model.encode_texts(TEXTS)[0]) >= 0.999


def test_int8_passes_its_check(family) -> None:
    agreement = in_int8(read(family.folder))[1]
    assert agreement.least_cosine >= (0.999 if cpu_has_int8() else 0.99)
    assert agreement.neighbours >= 0.95


def test_tokens_are_those_of_the_librarys_tokenizer(family, model) -> None:
    for text in TEXTS + random_texts(300):
        expected = family.tokens([text])[0].tolist()
        ids = model.tokenizer.encode(text).ids.tolist()
        assert ids == expected[: len(ids)], text
        assert not any(expected[len(ids) :]), text  # OpenCLIP fills its table with zeros


def test_a_text_past_the_context_is_cut_and_reported(model) -> None:
    assert model.tokenizer.encode("dog " * 500).truncated
    assert not model.tokenizer.encode("dog " * 5).truncated


def test_pixels_are_those_of_the_librarys_processor(family, model) -> None:
    files = [file.read_bytes() for file in photographs.carried()[:4]]
    for width, height in ((64, 64), (65, 97), (97, 66), (301, 200), (30, 20), (500, 67)):
        picture, buffer = Image.fromarray(noise(1, 500)[0, :height, :width]), io.BytesIO()
        picture.save(buffer, "PNG")
        files.append(buffer.getvalue())
    for file in files:
        expected = family.pixels(Image.open(io.BytesIO(file)).convert("RGB"))
        assert (decode(file, model.preprocessing, MAX_PIXELS).pixels == expected).all()


@pytest.mark.skipif(
    "GLIMPSE_TEST_WEIGHTS" not in os.environ,
    reason="GLIMPSE_TEST_WEIGHTS names no folder of published models",
)
def test_published_models_know_what_photographs_show() -> None:
    """Each file or folder in that folder; of a bare file, as its name says, openai/CLIP's."""
    folders = sorted(Path(os.environ["GLIMPSE_TEST_WEIGHTS"]).iterdir())
    assert folders
    for path in folders:
        model = ClipModel(read(path), "cpu", "fp32")
        files = [file.read_bytes() for file in photographs.carried()]
        pixels = [decode(file, model.preprocessing, MAX_PIXELS).pixels for file in files]
        texts, _ = model.encode_texts([f"a photo of {each}" for each in (*SHOWN, *NOT_SHOWN)])
        best = (model.encode_pixels(np.stack(pixels)) @ texts.T).argmax(axis=1)
        assert best.tolist() == list(range(len(SHOWN))), path


CHANGES = {
    "hugging-face": [
        ("config.json", '"layer_norm_eps": 1e-05', '"layer_norm_eps": 2e-05'),
        ("config.json", '"hidden_act": "gelu"', '"hidden_act": "quick_gelu"'),
        ("preprocessor_config.json", '"resample": 3', '"resample": 2'),
        ("tokenizer.json", '"</w>"', '"</v>"'),
    ],
    "open-clip": [
        ("open_clip_config.json", '"quick_gelu": false', '"quick_gelu": true'),
        ("open_clip_config.json", '"heads": 2', '"heads": 4'),
        ("open_clip_config.json", "0.25", "0.26"),
        ("open_clip_config.json", "squash", "shortest"),
    ],
    "siglip": [
        ("config.json", '"layer_norm_eps": 1e-06', '"layer_norm_eps": 2e-06'),
        ("preprocessor_config.json", "0.5", "0.4"),
        ("tokenizer_config.json", "Siglip2Tokenizer", "GemmaTokenizer"),
        ("tokenizer_config.json", "right", "left"),
    ],
}


def test_the_fingerprint_covers_configuration_and_tokenizer(family, copied, request) -> None:
    seen = {read(family.folder).fingerprint, read(copied).fingerprint}
    assert len(seen) == 1
    for file, old, new in CHANGES[request.node.callspec.params["family"]]:
        content = (copied / file).read_text()
        assert old in content
        (copied / file).write_text(content.replace(old, new))
        seen.add(read(copied).fingerprint)
        (copied / file).write_text(content)
    assert len(seen) == 1 + 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda weights, name: weights.pop(name), "is missing"),
        (lambda weights, name: weights.update({name: torch.zeros(3, 3)}), "has dimensions"),
        (lambda weights, name: weights.update(adapter=torch.zeros(3)), "adapter is no part"),
    ],
)
def test_weights_that_do_not_fit_the_configuration_are_refused(copied, change, words) -> None:
    file = next(copied.glob("*model.safetensors"))
    weights = load_file(file)
    change(weights, next(each for each in weights if "fc1.weight" in each or "c_fc.weight" in each))
    save_file(weights, file)
    with pytest.raises(CheckpointError, match=words) as caught:
        read(copied)
    assert "\n" not in str(caught.value)


def damaged(folder: Path, file: str, change: Callable[[dict], None]) -> Path:
    content = json.loads((folder / file).read_text())
    change(content)
    (folder / file).write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = MAKERS[name](tmp_path_factory.mktemp("whole")).folder
        return Path(shutil.copytree(made[name], tmp_path_factory.mktemp("damaged") / "model"))

    return folder


REFUSED = [
    ("hugging-face", "config.json", lambda c: c.update(model_type="bert"), "model_type is .bert"),
    ("siglip", "config.json", lambda c: c.update(model_type="siglip2"), 'model_type is "siglip2"'),
    (
        "hugging-face",
        "config.json",
        lambda c: c["text_config"].update(hidden_act="relu"),
        'hidden_act is "relu"; "quick_gelu" or',
    ),
    (
        "hugging-face",
        "config.json",
        lambda c: c["text_config"].update(eos_token_id=7),
        "eos_token_id is 7, not the highest",
    ),
    (
        "hugging-face",
        "config.json",
        lambda c: c["vision_config"].update(num_attention_heads=7),
        "does not divide into 7 heads",
    ),
    (
        "hugging-face",
        "preprocessor_config.json",
        lambda c: c.update(size={"shortest_edge": 100}),
        "do not make a square of 64",
    ),
    (
        "hugging-face",
        "preprocessor_config.json",
        lambda c: c.update(resample=0),
        "resample is 0",
    ),
    (
        "siglip",
        "preprocessor_config.json",
        lambda c: c.pop("image_mean"),
        "image_mean is null, not three numbers",
    ),
    (
        "siglip",
        "config.json",
        lambda c: c["vision_config"].update(vision_use_head=False),
        "vision_use_head is false",
    ),
    (
        "siglip",
        "tokenizer_config.json",
        lambda c: c.update(tokenizer_class="SiglipTokenizer"),
        'tokenizer_class is "SiglipTokenizer"',
    ),
    (
        "open-clip",
        "open_clip_config.json",
        lambda c: c["model_cfg"]["vision_cfg"].update(timm_model_name="vit_base"),
        "sets timm_model_name to 'vit_base'",
    ),
    (
        "open-clip",
        "open_clip_config.json",
        lambda c: c["model_cfg"]["vision_cfg"].update(pool_type="avg"),
        "sets pool_type to 'avg'",
    ),
    (
        "open-clip",
        "open_clip_config.json",
        lambda c: c["model_cfg"]["text_cfg"].update(hf_tokenizer_name="gemma"),
        "sets hf_tokenizer_name to 'gemma'",
    ),
    (
        "open-clip",
        "open_clip_config.json",
        lambda c: c["model_cfg"].update(multimodal_cfg={"layers": 12}),
        "sets multimodal_cfg",
    ),
    (
        "open-clip",
        "open_clip_config.json",
        lambda c: c["preprocess_cfg"].update(resize_mode="longest"),
        'resize_mode is "longest"',
    ),
]


@pytest.mark.parametrize(
    ("name", "file", "change", "words"), REFUSED, ids=[words for *_, words in REFUSED]
)
def test_what_is_not_understood_is_refused_in_one_line(folders, name, file, change, words) -> None:
    with pytest.raises(CheckpointError, match=words) as caught:
        read(damaged(folders(name), file, change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "file", "words"),
    [
        ("hugging-face", "config.json", "neither open_clip_config.json nor config.json"),
        ("hugging-face", "preprocessor_config.json", "preprocessor_config.json is missing"),
        ("hugging-face", "tokenizer.json", r"tokenizer\.json: No such file"),
        ("hugging-face", "model.safetensors", "has no model.safetensors or pytorch_model.bin"),
        ("open-clip", "open_clip_model.safetensors", "has no open_clip_model.safetensors"),
    ],
)
def test_a_file_that_is_missing_in_a_folder_is_named(folders, name, file, words) -> None:
    folder = folders(name)
    (folder / file).unlink()
    with pytest.raises(CheckpointError, match=words):
        read(folder)


def test_another_models_tokenizer_is_refused(folders) -> None:
    folder = folders("siglip")
    shutil.copy(folders("hugging-face") / "tokenizer.json", folder / "tokenizer.json")
    with pytest.raises(CheckpointError, match="has a token 49407, and the model knows"):
        ClipModel(read(folder), "cpu", "fp32")


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_open_clips_older_and_newer_forms_are_read(quick_gelu, tmp_path) -> None:
    made = open_clip_clip(
        tmp_path,
        3,
        quick_gelu,
        safe=False,
        custom_text=True,
        text_cfg={"proj_bias": True},
        vision_cfg={"no_ln_pre": True, "norm_kwargs": {"eps": 1e-3}, "mlp_ratio": 3.5},
    )
    assert (tmp_path / "open_clip_pytorch_model.bin").exists()
    model, pixels = ClipModel(read(tmp_path), "cpu", "fp32"), noise(3, 64)
    assert np.abs(model.encode_pixels(pixels) - made.encode_pixels(pixels)).max() < 1e-4
    assert np.abs(model.encode_texts(TEXTS)[0] - made.encode_texts(TEXTS)).max() < 1e-4


def test_open_clips_resnets_are_read(tmp_path) -> None:
    vision = {"layers": [1, 1, 1, 1], "width": 32, "head_width": 64, "patch_size": None}
    made = open_clip_clip(tmp_path, 4, vision_cfg=vision)
    model, pixels = ClipModel(read(tmp_path), "cpu", "fp32"), noise(3, 64)
    assert np.abs(model.encode_pixels(pixels) - made.encode_pixels(pixels)).max() < 1e-4
    assert np.abs(model.encode_texts(TEXTS)[0] - made.encode_texts(TEXTS)).max() < 1e-4


def test_patches_that_do_not_cover_a_picture_are_those_of_the_library(tmp_path) -> None:
    made = siglip(tmp_path, 5, image_size=66, patch_size=16)
    model, pixels = ClipModel(read(tmp_path), "cpu", "fp32"), noise(3, 66)
    assert np.abs(model.encode_pixels(pixels) - made.encode_pixels(pixels)).max() < 1e-4


def test_recorded_texts_whose_tokens_see_what_follows_them_get_no_fillers(
    folders, monkeypatch
) -> None:
    monkeypatch.setattr(model_module, "CudaGraphs", AtOnce)
    model = ClipModel(read(folders("siglip")), "cpu", "fp32")
    exact = model.encode_texts(["a white dog", "x"])[0]
    model._recorded = model._record()
    assert np.abs(model.encode_texts(["a white dog", "x"])[0] - exact).max() < 1e-5
