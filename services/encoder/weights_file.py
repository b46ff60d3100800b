"""A file's tensors by their names, in any format that is read here; nothing in it is executed.

Plain state dicts are read with `weights_only`, TorchScript archives by torchscript.py; safetensors
hold nothing but numbers. Files are mapped: of a tensor that nobody computes with, nothing is read.
What the names mean is services.encoder.formats' job.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from services.encoder import torchscript
from services.encoder.shape import Activation, is_weight

# As training scripts nest a model in what else they save, and as DistributedDataParallel names it.
_NESTED = ("state_dict", "model_state_dict")
_WRAPPER = "module."

# An archive names the classes of its modules.
_ACTIVATIONS: dict[str, Activation] = {"QuickGELU": "quick_gelu", "GELU": "gelu"}


@dataclass(frozen=True)
class WeightsOfFile:
    """What a file holds."""

    # In the dtype in which they are stored, on the CPU; whoever changes the file changes them.
    tensors: dict[str, torch.Tensor]
    activation: Activation | None = None  # where the file says it


def read_file(path: Path) -> WeightsOfFile:
    """Read a file. Raises what its readers raise of a broken one, and ValueError."""
    activation: Activation | None = None
    if path.suffix == ".safetensors":
        found: Any = load_file(path)
    elif torchscript.is_torchscript(path):
        archive = torchscript.read(path)
        found = archive.tensors
        said: list[Activation] = [
            _ACTIVATIONS[name] for name in _ACTIVATIONS if name in archive.classes
        ]
        activation = said[0] if len(said) == 1 else None
    else:
        try:
            is_mapped = zipfile.is_zipfile(path)  # files of very old releases cannot be
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=is_mapped)
        except (EOFError, LookupError) as error:  # of a text, say, that is taken for a pickle
            raise ValueError("it is no file of weights") from error
    return WeightsOfFile(_tensors(found), activation)


def _tensors(found: Any) -> dict[str, torch.Tensor]:
    if not isinstance(found, Mapping):
        raise ValueError(f"it holds a {type(found).__name__} and not a state dict")
    for key in _NESTED:
        if isinstance(found.get(key), Mapping):
            return _tensors(found[key])
    inner = [key for key, value in found.items() if isinstance(value, Mapping) and value]
    if inner and not any(isinstance(value, torch.Tensor) for value in found.values()):
        raise ValueError(f"its weights seem to be under {inner[0]!r}: save what is there alone")
    tensors = {
        name: value
        for name, value in found.items()
        if isinstance(name, str) and isinstance(value, torch.Tensor)
    }
    if tensors and all(name.startswith(_WRAPPER) for name in tensors):
        tensors = {name[len(_WRAPPER) :]: value for name, value in tensors.items()}
    return {name: value for name, value in tensors.items() if is_weight(name)}
