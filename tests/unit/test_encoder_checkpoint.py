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

from services.encoder import checkpoint
from services.encoder.checkpoint import CheckpointError, read
from tests.clip_models import TINY, TINY_RESNET, VIT_B_32, saved, untrained


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
    assert (shape.image_layers, shape.image_width) == (2, 128)
    assert (shape.context_length, shape.text_layers, shape.text_width) == (77, 2, 64)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.fingerprint == f"{sha256}/32px/v1"


def test_a_torchscript_archive_gives_the_same_weights_and_is_never_run(tmp_path) -> None:
    model = untrained(1)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    found = read(archive(model, tmp_path / "archive.pt"), "archive")
    assert set(found.weights) == set(expected)
    assert all(torch.equal(found.weights[name], expected[name]) for name in expected)


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
    found = checkpoint.torchscript.read_tensors(path)
    assert torch.equal(found["weight"], model.weight.detach())


def test_safetensors_are_read(tiny, tmp_path) -> None:
    weights = {name: value.clone() for name, value in tiny.state_dict().items()}
    save_file(weights, tmp_path / "tiny.safetensors")
    found = read(tmp_path / "tiny.safetensors", "tiny")
    assert all(torch.equal(found.weights[name], weights[name]) for name in weights)


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
        read(path, "ViT-B/32", expected_sha256="0" * 64)


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
    ],
)
def test_weights_that_are_no_clip_are_refused_with_the_reason(
    tiny, tmp_path, damage, message
) -> None:
    weights = dict(tiny.state_dict())
    damage(weights)
    torch.save(weights, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match=message):
        read(tmp_path / "odd.pt", "odd")


def test_a_list_of_tensors_is_no_state_dict(tmp_path) -> None:
    torch.save([torch.zeros(3)], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="list"):
        read(tmp_path / "list.pt", "list")
