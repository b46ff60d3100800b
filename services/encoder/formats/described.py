"""What a reader of any format returns, and how configurations are read without a guess."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from services.encoder.shape import Activation, Colours, Shape
from services.encoder.vocabulary import Vocabulary


@dataclass(frozen=True)
class Described:
    """A model out of a file or folder, not yet checked."""

    shape: Shape
    weights: Mapping[str, torch.Tensor]  # named as openai/CLIP does, on the CPU
    vocabulary: Vocabulary
    prompt_template: str = ""  # what texts are put into unless their caller says; empty: nothing


def read_json(path: Path) -> dict[str, Any]:
    """Raises ValueError for a file that is not there, or holds no JSON object."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path.name}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path.name} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds no JSON object")
    return content


def whole(values: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """A whole number from 1 on. Raises ValueError."""
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{key} is {_shown(value)}, not a whole number from 1 on")
    return value


def number(values: Mapping[str, Any], key: str, default: float) -> float:
    """A positive number. Raises ValueError."""
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
        raise ValueError(f"{key} is {_shown(value)}, not a positive number")
    return float(value)


def colours(values: Mapping[str, Any], key: str, default: Colours | None = None) -> Colours:
    """Three numbers, for R, G and B. Raises ValueError."""
    value = values.get(key, default)
    numbers = (
        [each for each in value if isinstance(each, (int, float))]
        if (isinstance(value, (list, tuple)) and len(value) == 3)
        else []
    )
    if len(numbers) != 3 or not all(abs(each) < 1e9 for each in numbers):
        raise ValueError(f"{key} is {_shown(value)}, not three numbers")
    return (float(numbers[0]), float(numbers[1]), float(numbers[2]))


def one_of(values: Mapping[str, Any], key: str, known: Collection[Any], default: Any = None) -> Any:
    """One of the values that are understood here. Raises ValueError, which says it."""
    value = values.get(key, default)
    if isinstance(value, (dict, list)) or value not in known:
        names = " or ".join(_shown(each) for each in known)
        raise ValueError(f"{key} is {_shown(value)}; {names} can be computed here")
    return value


def head_width(width: int, heads: int) -> int:
    """Raises ValueError where a width is not that of whole heads."""
    if width % heads:
        raise ValueError(f"a width of {width} does not divide into {heads} heads")
    return width // heads


def activation(values: Mapping[str, Any], key: str, default: Activation) -> Activation:
    """The activation by its name in Hugging Face's libraries. Raises ValueError."""
    names: dict[str, Activation] = {
        "quick_gelu": "quick_gelu",
        "gelu": "gelu",
        "gelu_new": "gelu_tanh",
        "gelu_tanh": "gelu_tanh",
        "gelu_pytorch_tanh": "gelu_tanh",
    }
    return names[one_of(values, key, names, default)]


def _shown(value: Any) -> str:
    """Short, whatever a file holds."""
    return json.dumps(value, default=str)[:80]
