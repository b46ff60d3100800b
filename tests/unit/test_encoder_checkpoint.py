"""Reading weights: three file formats, the shape that follows, and files that must be refused."""

from __future__ import annotations

import hashlib
import os
import pickle
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from glimpse.pictures.preprocessing import PREPROCESSING_VERSION
from services.encoder import checkpoint, torchscript
from services.encoder.checkpoint import CheckpointError
from services.encoder.download import BUNDLED, OPENAI_SHA256, WeightsFile
from services.encoder.shape import Tower
from tests.clip_models import TINY, TINY_RESNET, VIT_B_32, read, saved, untrained


class Trap:
    """A pickle that would leave a file behind if it were ever executed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def tiny() -> torch.nn.Module:
    return untrained()


def archive(model: torch.nn.Module, path: Path) -> Path:
    """The model as a TorchScript archive with both towers, as openai/CLIP publishes its models."""
    model.register_buffer("input_resolution", torch.tensor(TINY["image_resolution"]))
    inputs = {
        "encode_image": torch.zeros(1, 3, 32, 32),
        "encode_text": torch.zeros(1, 77, dtype=torch.long),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace_module(model, inputs).save(str(path))
    return path


def test_a_plain_state_dict_gives_weights_shape_and_fingerprint(tiny, tmp_path) -> None:
    path = tmp_path / "tiny.pt"
    torch.save(tiny.state_dict(), path)
    found = read(path, "tiny")
    assert set(found.weights) == set(tiny.state_dict())
    shape = found.shape
    assert (shape.dimension, shape.image_size, shape.patch_size) == (48, 32, 8)
    assert shape.image == Tower(128, 2, 64, "quick_gelu")
    assert (shape.context_length, shape.text) == (77, Tower(64, 2, 64, "quick_gelu"))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.fingerprint == f"{sha256}/32px/v{PREPROCESSING_VERSION}"


def test_a_torchscript_archive_gives_the_same_weights_and_is_never_run(tmp_path) -> None:
    model = untrained(1)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    found = read(archive(model, tmp_path / "archive.pt"), "archive")
    assert set(found.weights) == set(expected)
    assert all(torch.equal(found.weights[name], expected[name]) for name in found.weights)


def test_a_torchscript_archive_in_half_precision_is_read(tmp_path) -> None:
    class Halves(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(6, 4).half().t()[1:])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    model = Halves()
    path = tmp_path / "halves.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(model).save(str(path))
    found = torchscript.read(path)
    assert torch.equal(found.tensors["weight"], model.weight.detach())


def test_safetensors_are_read(tiny, tmp_path) -> None:
    weights = {name: value.clone() for name, value in tiny.state_dict().items()}
    save_file(weights, tmp_path / "tiny.safetensors")
    found = read(tmp_path / "tiny.safetensors", "tiny")
    assert all(torch.equal(found.weights[name], weights[name]) for name in found.weights)


def test_resnets_are_recognised(tmp_path) -> None:
    shape = read(saved(tmp_path / "rn.pt", **TINY_RESNET), "rn").shape
    assert (shape.image_size, shape.patch_size, shape.dimension) == (64, 0, 48)


def test_the_shape_of_vit_b_32_is_found(tmp_path) -> None:
    small = VIT_B_32 | {"vision_layers": 1, "transformer_layers": 1}
    shape = read(saved(tmp_path / "vit.pt", **small), "vit").shape
    assert (shape.image_size, shape.patch_size, shape.dimension) == (224, 32, 512)


def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path) -> None:
    trace = tmp_path / "executed"
    for name, write in (
        ("zip.pt", lambda path: torch.save({"a": Trap(trace)}, path)),
        ("old.pt", lambda path: path.write_bytes(pickle.dumps({"a": Trap(trace)}))),
    ):
        write(tmp_path / name)
        with pytest.raises(CheckpointError):
            read(tmp_path / name, "trap")
    assert not trace.exists()


def test_a_torchscript_archive_with_code_in_its_listing_is_refused(tmp_path) -> None:
    import zipfile

    trace = tmp_path / "executed"
    path = tmp_path / "trap.pt"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("trap/data.pkl", pickle.dumps({"a": Trap(trace)}, protocol=2))
        file.writestr("trap/constants.pkl", pickle.dumps(()))
    with pytest.raises(CheckpointError, match="contains more than weights"):
        read(path, "trap")
    assert not trace.exists()


def test_the_expected_sha256_is_demanded(tiny, tmp_path) -> None:
    path = tmp_path / "tiny.pt"
    torch.save(tiny.state_dict(), path)
    with pytest.raises(CheckpointError, match="remove the file"):
        read(path, "ViT-B/32", "0" * 64)


def test_files_that_are_no_checkpoint_are_refused_by_name(tiny, tmp_path) -> None:
    whole = tmp_path / "whole.pt"
    torch.save(tiny.state_dict(), whole)
    contents = {
        "empty.pt": b"",
        "text.pt": b"not weights at all",
        "cut.pt": whole.read_bytes()[:100_000],
        "cut.safetensors": b"\x10\x00\x00\x00\x00\x00\x00\x00{",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=name):
            read(tmp_path / name, name)
    with pytest.raises(CheckpointError, match=r"missing\.pt"):
        read(tmp_path / "missing.pt", "missing")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda w: w.pop("text_projection"), "text_projection"),
        (lambda w: w.update({"token_embedding.weight": torch.zeros(99, 64)}), "vocabulary of 99"),
        (lambda w: w.update({"visual.positional_embedding": torch.zeros(16, 128)}), "16 rows"),
        (lambda w: w.update({"positional_embedding": torch.zeros(77)}), "dimensions"),
        (lambda w: w.pop("ln_final.bias"), r"ln_final\.bias is missing"),
        (lambda w: w.update({"ln_final.bias": torch.zeros(3)}), "has dimensions 3, not 64"),
        (lambda w: w.update({"visual.adapter.weight": torch.zeros(3)}), "is no part of such"),
    ],
)
def test_weights_that_are_no_clip_are_refused_with_the_reason(
    tiny, tmp_path, damage, message
) -> None:
    weights = {name: value.clone() for name, value in tiny.state_dict().items()}
    damage(weights)
    torch.save(weights, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match=message):
        read(tmp_path / "odd.pt", "odd")


def test_a_list_of_tensors_is_no_state_dict(tmp_path) -> None:
    torch.save([torch.zeros(3)], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="list"):
        read(tmp_path / "list.pt", "list")


def test_a_file_that_does_not_say_its_activation_is_refused(tiny, tmp_path) -> None:
    torch.save(tiny.state_dict(), tmp_path / "bare.pt")
    with pytest.raises(CheckpointError, match="set ENCODER_ACTIVATION to quick_gelu"):
        checkpoint.read(WeightsFile("bare", tmp_path / "bare.pt"))


def test_an_archive_says_its_activation_itself(tmp_path) -> None:
    weights = WeightsFile("archive", archive(untrained(1), tmp_path / "archive.pt"))
    assert checkpoint.read(weights).shape.text.activation == "quick_gelu"
    with pytest.raises(CheckpointError, match="has quick_gelu, and ENCODER_ACTIVATION is gelu"):
        checkpoint.read(weights, "gelu")


def test_a_file_of_openai_needs_no_activation(tiny, tmp_path, monkeypatch) -> None:
    path = tmp_path / "renamed.pt"
    torch.save(tiny.state_dict(), path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(checkpoint, "OPENAI_SHA256", OPENAI_SHA256 | {sha256})
    assert checkpoint.read(WeightsFile("renamed", path)).fingerprint.startswith(sha256)


def test_gelu_is_another_model_than_quick_gelu(tiny, tmp_path) -> None:
    torch.save(tiny.state_dict(), tmp_path / "bare.pt")
    weights = WeightsFile("bare", tmp_path / "bare.pt")
    quick, plain = checkpoint.read(weights, "quick_gelu"), checkpoint.read(weights, "gelu")
    assert plain.fingerprint != quick.fingerprint
    assert plain.fingerprint.startswith(quick.fingerprint)


def test_the_bundled_models_fingerprint_stays_what_collections_have() -> None:
    found = checkpoint.read(BUNDLED)
    assert found.fingerprint == f"{found.sha256}/{found.preprocessing.fingerprint}"


@pytest.mark.parametrize("width", [1280, 1408, 1664])  # of OpenCLIP's H, g and bigG
def test_a_file_whose_heads_may_have_another_width_is_refused(tiny, tmp_path, width) -> None:
    weights = dict(tiny.state_dict())
    weights["visual.conv1.weight"] = torch.zeros(width, 3, 8, 8)
    torch.save(weights, tmp_path / "wide.pt")
    with pytest.raises(CheckpointError, match=f"{width} wide, and nothing in the file says"):
        read(tmp_path / "wide.pt")


def test_nested_and_wrapped_state_dicts_are_taken(tiny, tmp_path) -> None:
    weights = {f"module.{name}": value for name, value in tiny.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": weights, "optimizer": {}}, tmp_path / "epoch_3.pt")
    found = read(tmp_path / "epoch_3.pt")
    assert torch.equal(found.weights["visual.proj"], tiny.state_dict()["visual.proj"])


def test_a_file_out_of_a_hugging_face_folder_is_refused_with_a_hint(tmp_path) -> None:
    save_file({"text_model.final_layer_norm.bias": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="name its folder"):
        read(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"not weights at all", "is no file of weights"),
        (b"", "is no file of weights"),
        ({"model": {"visual.proj": torch.zeros(1)}}, "its weights seem to be under 'model'"),
    ],
    ids=["a text", "nothing", "nested"],
)
def test_what_holds_no_weights_says_so(tmp_path, content, words) -> None:
    path = tmp_path / "odd.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match=words):
        read(path, "odd")
