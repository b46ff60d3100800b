"""A bare file in openai/CLIP's format: all but the activation follows from its tensors.

Nor do tensors say how wide a head is. openai/CLIP's are 64 wide, in towers up to 1,024 wide; those
of other trainers that are wider have heads of 80, 88 or 104, so that such a file is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from glimpse.pictures.preprocessing import Preprocessing
from services.encoder.formats.described import Described
from services.encoder.shape import Activation, Shape, Tower
from services.encoder.vocabulary import OPENAI_VOCABULARY

# The byte-pair vocabulary of openai/CLIP, its two special tokens included.
VOCABULARY_SIZE = 49_408

HEAD_WIDTH = 64
_MAX_WIDTH = 1024


def describe(weights: Mapping[str, torch.Tensor], activation: Activation) -> Described:
    """The model. Raises KeyError or ValueError where the tensors are not those of a CLIP."""
    text_width, dimension = _dimensions(weights, "text_projection", 2)
    vocabulary_size = _dimensions(weights, "token_embedding.weight", 2)[0]
    if vocabulary_size != VOCABULARY_SIZE:
        raise ValueError(f"a vocabulary of {vocabulary_size}; openai/CLIP's has {VOCABULARY_SIZE}")
    image, patch_size = None, 0
    if "visual.proj" in weights:
        width, _, patch_size, _ = _dimensions(weights, "visual.conv1.weight", 4)
        layers = _layers(weights, "visual.transformer.resblocks.")
        image = _tower(width, layers, activation)
        image_size = patch_size * _grid_side(weights, "visual.positional_embedding")
    else:
        image_size = 32 * _grid_side(weights, "visual.attnpool.positional_embedding")
    shape = Shape(
        family="openai/CLIP" if activation == "quick_gelu" else "OpenCLIP",
        dimension=dimension,
        patch_size=patch_size,
        image=image,
        text=_tower(text_width, _layers(weights, "transformer.resblocks."), activation),
        context_length=_dimensions(weights, "positional_embedding", 2)[0],
        vocabulary_size=vocabulary_size,
        preprocessing=Preprocessing(image_size),
    )
    return Described(shape, weights, OPENAI_VOCABULARY)


def _tower(width: int, layers: int, activation: Activation) -> Tower:
    if width > _MAX_WIDTH:
        raise ValueError(
            f"a tower is {width} wide, and nothing in the file says how wide its heads are; use "
            "the folder that OpenCLIP or Hugging Face publish it in, with its configuration"
        )
    if width % HEAD_WIDTH:
        raise ValueError(f"a width of {width} does not divide into heads of {HEAD_WIDTH}")
    return Tower(width, layers, HEAD_WIDTH, activation)


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
