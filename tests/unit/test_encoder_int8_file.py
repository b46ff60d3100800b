"""A model in int8 that an earlier start kept: the same model at once, or as if there were none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from services.encoder import int8_file, precisions
from services.encoder.checkpoint import Checkpoint
from services.encoder.hardware import PrecisionUnusable
from services.encoder.int8_check import Agreement, Reference, in_int8, reference
from services.encoder.model import ClipModel
from services.encoder.settings import EncoderSettings
from tests.clip_models import TINY, read, saved

ANY = {"device": "cpu", "precision": "int8", "min_int8_neighbours": 0, "min_int8_cosine": 0}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Checkpoint:
    return read(saved(tmp_path_factory.mktemp("tiny") / "tiny.pt", **TINY))


@pytest.fixture(scope="module")
def exact(checkpoint) -> Reference:
    return reference(checkpoint)


@pytest.fixture(autouse=True)
def made(monkeypatch, exact) -> list[str]:
    """The models that were made int8 and compared with fp32, by name. All tests share what fp32
    gives."""
    names: list[str] = []

    def noted(checkpoint, threads, made):
        names.append(checkpoint.name)
        return in_int8(checkpoint, threads, exact, made)

    monkeypatch.setattr(precisions, "in_int8", noted)
    return names


@pytest.fixture(scope="module")
def kept(checkpoint, exact, tmp_path_factory) -> tuple[bytes, NDArray[np.float32], Agreement]:
    """The file of a first start, what its model gave, and how that agreed."""
    made: dict[str, torch.Tensor] = {}
    model, agreement = in_int8(checkpoint, exact=exact, made=made)
    file = int8_file.Int8File(tmp_path_factory.mktemp("kept"), checkpoint)
    file.write(agreement, made)
    return file.path.read_bytes(), vectors(model), agreement


def start(checkpoint: Checkpoint, folder: Path, **settings):
    return precisions.load(
        checkpoint, EncoderSettings.model_validate({"cache_dir": folder, **ANY, **settings})
    )


def file_in(folder: Path) -> Path:
    (file,) = folder.glob("*.npz")
    return file


def put(content: bytes, checkpoint: Checkpoint, folder: Path) -> Path:
    path = int8_file.Int8File(folder, checkpoint).path
    path.write_bytes(content)
    return path


def vectors(model: ClipModel) -> NDArray[np.float32]:
    size = model.shape.image_size
    pixels = np.random.default_rng(3).integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    return np.concatenate([model.encode_pixels(pixels), model.encode_texts(["a dog", "two"])[0]])


def test_the_second_start_has_the_first_ones_model_and_compares_nothing(
    kept, checkpoint, made, tmp_path
) -> None:
    content, first_vectors, first_agreement = kept
    put(content, checkpoint, tmp_path)
    model, agreement = start(checkpoint, tmp_path)
    assert made == []
    assert (model.precision, agreement) == ("int8", first_agreement)
    assert np.array_equal(vectors(model), first_vectors)


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(flipped, id="one bit"),
        pytest.param(lambda content: content[: len(content) // 2], id="cut off"),
        pytest.param(lambda content: b"", id="empty"),
        pytest.param(lambda content: b"\x93NUMPY" + content, id="something else"),
    ],
)
def test_a_damaged_file_is_one_line_in_the_log_and_made_anew(
    damage, kept, checkpoint, made, tmp_path, caplog
) -> None:
    content, first_vectors, _ = kept
    path = put(damage(content), checkpoint, tmp_path)
    with caplog.at_level("INFO", logger=precisions.__name__):
        model, _ = start(checkpoint, tmp_path)
    (line, _loaded) = caplog.messages
    assert f"{path} cannot be used" in line
    assert made == ["model"]
    assert np.array_equal(vectors(model), first_vectors)
    start(checkpoint, tmp_path)
    assert made == ["model"], "the new file serves the next start"
    assert {each.suffix for each in tmp_path.iterdir()} <= {".npz", ".lock"}


def test_a_file_of_another_version_is_made_anew(
    kept, checkpoint, made, tmp_path, monkeypatch, caplog
) -> None:
    put(kept[0], checkpoint, tmp_path)
    monkeypatch.setattr(int8_file, "_version", lambda: "a later one")
    with caplog.at_level("INFO", logger=precisions.__name__):
        start(checkpoint, tmp_path)
    assert "another version made it" in caplog.messages[0]
    assert made == ["model"]
    start(checkpoint, tmp_path)
    assert made == ["model"]


def test_other_weights_and_other_processors_have_other_files(
    checkpoint, tmp_path, processor
) -> None:
    other = read(saved(tmp_path / "other.pt", seed=1, **TINY))
    found = set()
    for flags in ("", "avx512_vnni", "avx512_vnni avx512_bf16"):
        processor(flags)
        found |= {int8_file.Int8File(tmp_path, each).path for each in (checkpoint, other)}
    assert len(found) == 6


def test_a_folder_that_cannot_be_written_to_costs_a_line_and_nothing_else(
    checkpoint, tmp_path, caplog
) -> None:
    (tmp_path / "file").touch()
    with caplog.at_level("INFO"):
        model, _ = start(checkpoint, tmp_path / "file" / "folder")
    assert model.precision == "int8"
    (line,) = [each for each in caplog.messages if "at the next start" in each]
    assert "Not a directory" in line or "File exists" in line


def test_a_refusal_is_kept_without_the_model_until_the_settings_allow_it(
    checkpoint, made, tmp_path
) -> None:
    for _ in range(2):
        with pytest.raises(PrecisionUnusable, match="ENCODER_MIN_INT8_COSINE is 1"):
            start(checkpoint, tmp_path, min_int8_cosine=1)
    assert made == ["model"]
    assert file_in(tmp_path).stat().st_size < 10_000
    start(checkpoint, tmp_path)
    assert made == ["model"] * 2
    start(checkpoint, tmp_path)
    assert made == ["model"] * 2


def test_tensors_of_a_resnet_are_not_kept(checkpoint, tmp_path, monkeypatch) -> None:
    """Its class takes all weights as they are in the checkpoint."""

    def make(checkpoint, threads, made):
        made["weight"] = torch.zeros(3)
        return checkpoint, Agreement(1, 1, 1, 1)

    monkeypatch.setattr(precisions, "in_int8", make)
    resnet = replace(checkpoint, shape=replace(checkpoint.shape, image=None))
    start(resnet, tmp_path)
    assert not int8_file.Int8File(tmp_path, resnet).read().tensors
