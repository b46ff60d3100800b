"""A file of CLIP weights becomes named tensors, their shape and a fingerprint; it computes nothing.

Nothing in a weights file is ever executed: plain state dicts are read with `weights_only`,
TorchScript archives by services.encoder.torchscript, safetensors hold nothing but numbers.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from services.common.preprocessing import Preprocessing
from services.encoder import torchscript
from services.encoder.download import file_sha256

# The byte-pair vocabulary of openai/CLIP, its two special tokens included.
VOCABULARY_SIZE = 49_408

# Every head of every CLIP tower is 64 wide; widths are multiples of it.
HEAD_WIDTH = 64

# Attributes of the published archives that are no weights.
_NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask")


class CheckpointError(Exception):
    """The file cannot be used as a CLIP model; the message names the file and says why."""


@dataclass(frozen=True)
class Shape:
    """The hyper-parameters of a CLIP model, all of which follow from its weights."""

    dimension: int  # length of the vectors
    image_size: int  # side of the square that the image tower sees, in pixels
    patch_size: int  # side of a patch, in pixels; 0 for a ResNet
    image_layers: int  # 0 for a ResNet
    image_width: int
    context_length: int  # tokens, start and end included
    text_layers: int
    text_width: int


@dataclass(frozen=True)
class Checkpoint:
    """Weights as openai/CLIP names them, in the dtype in which they are stored, on the CPU."""

    name: str
    weights: Mapping[str, torch.Tensor]
    shape: Shape
    sha256: str

    @property
    def preprocessing(self) -> Preprocessing:
        """How the model sees pictures."""
        return Preprocessing(self.shape.image_size)

    @property
    def fingerprint(self) -> str:
        """Tells two models apart whose vectors must not be compared."""
        return f"{self.sha256}/{self.preprocessing.fingerprint}"


def read(path: Path, name: str, expected_sha256: str | None = None) -> Checkpoint:
    """Read a CLIP checkpoint: a plain state dict, an official TorchScript archive, or safetensors.

    Raises CheckpointError for a file that is not there, is damaged, is not the expected one, or
    holds no model of openai/CLIP.
    """
    try:
        sha256 = file_sha256(path)
        if expected_sha256 not in (None, sha256):
            raise CheckpointError(
                f"{path}: SHA-256 is {sha256}, expected {expected_sha256} for {name}; "
                "remove the file and restart"
            )
        weights = _weights(path)
        return Checkpoint(name, weights, _shape(weights), sha256)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from error
    except KeyError as error:
        raise CheckpointError(
            f"{path}: not a model in openai/CLIP's format: {error} is missing"
        ) from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused, because it contains more than weights; use a saved "
            "`model.state_dict()`, an archive published by openai/CLIP, or safetensors"
        ) from error
    except CheckpointError:
        raise
    except Exception as error:  # broken files make the readers raise almost every exception
        raise CheckpointError(f"{path}: the weights cannot be read: {error}") from error


def _weights(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        found = load_file(path)
    elif torchscript.is_torchscript(path):
        found = torchscript.read_tensors(path)
    else:
        found = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(found, Mapping):
        raise ValueError(f"it holds a {type(found).__name__} and not a state dict")
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, torch.Tensor) and name.rpartition(".")[2] not in _NOT_WEIGHTS
    }


def _shape(weights: Mapping[str, torch.Tensor]) -> Shape:
    """Derive the hyper-parameters. Raises KeyError or ValueError where the tensors do not fit."""
    text_width, dimension = _dimensions(weights, "text_projection", 2)
    vocabulary_size = _dimensions(weights, "token_embedding.weight", 2)[0]
    if vocabulary_size != VOCABULARY_SIZE:
        raise ValueError(f"a vocabulary of {vocabulary_size}; openai/CLIP's has {VOCABULARY_SIZE}")
    image_width, patch_size, image_layers = 0, 0, 0
    if "visual.proj" in weights:
        image_width, _, patch_size, _ = _dimensions(weights, "visual.conv1.weight", 4)
        image_layers = _layers(weights, "visual.transformer.resblocks.")
        image_size = patch_size * _grid_side(weights, "visual.positional_embedding")
    else:
        image_size = 32 * _grid_side(weights, "visual.attnpool.positional_embedding")
    for width in (image_width, text_width):
        if width % HEAD_WIDTH:
            raise ValueError(f"a width of {width} does not divide into heads of {HEAD_WIDTH}")
    return Shape(
        dimension=dimension,
        image_size=image_size,
        patch_size=patch_size,
        image_layers=image_layers,
        image_width=image_width,
        context_length=_dimensions(weights, "positional_embedding", 2)[0],
        text_layers=_layers(weights, "transformer.resblocks."),
        text_width=text_width,
    )


def _dimensions(weights: Mapping[str, torch.Tensor], name: str, count: int) -> tuple[int, ...]:
    dimensions = tuple(weights[name].shape)
    if len(dimensions) != count:
        raise ValueError(f"{name} has {len(dimensions)} dimensions, not {count}")
    return dimensions


def _grid_side(weights: Mapping[str, torch.Tensor], name: str) -> int:
    """Patches along one side: the table holds their square, and one row for the class."""
    rows = _dimensions(weights, name, 2)[0]
    side = round((rows - 1) ** 0.5)
    if side < 1 or side * side + 1 != rows:
        raise ValueError(f"{name} has {rows} rows, which is no square and one")
    return side


def _layers(weights: Mapping[str, torch.Tensor], prefix: str) -> int:
    return len({name[len(prefix) :].split(".")[0] for name in weights if name.startswith(prefix)})
