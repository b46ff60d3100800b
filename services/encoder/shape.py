"""What a model is, as its checkpoint says: the shape of its towers, its pixels and its texts.

Everything by which the families of models differ is a value here; the tensors are model.py's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

from glimpse.pictures.preprocessing import Preprocessing
from services.encoder.vocabulary import Vocabulary

if TYPE_CHECKING:
    import torch

Family = Literal["openai/CLIP", "OpenCLIP", "Hugging Face CLIP", "SigLIP"]
Activation = Literal["quick_gelu", "gelu", "gelu_tanh"]

# Mean and deviation of R, G, B that openai/CLIP was trained with; from its clip.py.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_DEVIATION = (0.26862954, 0.26130258, 0.27577711)

Colours = tuple[float, float, float]
Dimensions = tuple[int, ...]


@dataclass(frozen=True)
class Tower:
    """A stack of residual attention blocks."""

    width: int
    layers: int
    head_width: int
    activation: Activation
    epsilon: float = 1e-5  # of the layer norms


@dataclass(frozen=True)
class Shape:
    """One model. Weights are named as openai/CLIP names them, whatever file they came from."""

    family: Family
    dimension: int  # length of the vectors
    patch_size: int  # side of a patch, in pixels; 0 for a ResNet
    image: Tower | None  # None for a ResNet
    text: Tower
    context_length: int  # tokens, start and end included
    vocabulary_size: int
    preprocessing: Preprocessing  # from a picture to pixels
    mean: Colours = CLIP_MEAN  # of pixels from 0 to 1
    deviation: Colours = CLIP_DEVIATION
    # What becomes an image's vector: the row of its class embedding, or what a probe attends to.
    image_pooling: Literal["class", "attention"] = "class"
    # What becomes a text's vector: the row of the highest token, which ends the text, or the last.
    text_pooling: Literal["highest", "last"] = "highest"
    causal: bool = True  # whether a token sees only those before it
    has_ln_pre: bool = True  # whether a layer norm comes before the image tower's blocks
    has_patch_bias: bool = False
    has_projection_bias: bool = False  # of texts

    @property
    def image_size(self) -> int:
        """Side of the square that the image tower sees, in pixels."""
        return self.preprocessing.image_size

    @property
    def image_rows(self) -> int:
        """Rows that the image tower computes for one image; 0 for a ResNet."""
        if not self.patch_size:
            return 0
        return (self.image_size // self.patch_size) ** 2 + (self.image_pooling == "class")

    def digest(self, vocabulary: Vocabulary) -> str:
        """Twelve hexadecimal digits for all that the weights do not say, and for the tokenizer.

        What has its default is left out, so that a new field does not change those of old models;
        so is the preprocessing, which has a fingerprint of its own.
        """
        said = [
            f"{field.name}={value!r}"
            for part in (self, vocabulary)
            for field in fields(part)
            if (value := getattr(part, field.name)) not in (field.default, self.preprocessing)
        ]
        return hashlib.sha256("\n".join(said).encode()).hexdigest()[:12]


# What files hold besides; of openai/CLIP's archives, and of training.
_NOT_WEIGHTS = frozenset({"input_resolution", "context_length", "vocab_size", "attn_mask"})
_NOT_WEIGHTS |= {"position_ids", "logit_bias"}
_UNUSED = frozenset({"logit_scale"})  # a parameter, of which no vector depends


def is_weight(name: str) -> bool:
    """Whether the tensor of this name is a parameter of the model."""
    return name.rpartition(".")[2] not in _NOT_WEIGHTS


def check_fit(shape: Shape, weights: Mapping[str, torch.Tensor]) -> None:
    """Raises ValueError unless the weights are exactly those of such a model; their numbers are
    not looked at.

    A tensor too many is as wrong as one too few: it would have changed the vectors.
    """
    expected = _expected(shape, weights)
    for name, dimensions in expected.items():
        if name not in weights:
            raise ValueError(f"{name} is missing")
        found = tuple(weights[name].shape)
        if found != dimensions:
            raise ValueError(f"{name} has dimensions {_shown(found)}, not {_shown(dimensions)}")
    for name in weights:
        is_of_resnet = not shape.patch_size and name.startswith("visual.")
        if name not in expected and name not in _UNUSED and not is_of_resnet:
            raise ValueError(f"{name} is no part of such a model")


def _shown(dimensions: Dimensions) -> str:
    return " x ".join(map(str, dimensions)) or "none"


def _expected(shape: Shape, weights: Mapping[str, torch.Tensor]) -> dict[str, Dimensions]:
    text, image = shape.text, shape.image
    names: dict[str, Dimensions] = {
        "token_embedding.weight": (shape.vocabulary_size, text.width),
        "positional_embedding": (shape.context_length, text.width),
        **_blocks("transformer", text, weights),
        **_norm("ln_final", text.width),
        "text_projection": (text.width, shape.dimension),
    }
    if shape.has_projection_bias:
        names["text_projection_bias"] = (shape.dimension,)
    if image is None:
        return names
    width = image.width
    names["visual.conv1.weight"] = (width, 3, shape.patch_size, shape.patch_size)
    names["visual.positional_embedding"] = (shape.image_rows, width)
    names |= _blocks("visual.transformer", image, weights) | _norm("visual.ln_post", width)
    if shape.has_patch_bias:
        names["visual.conv1.bias"] = (width,)
    if shape.has_ln_pre:
        names |= _norm("visual.ln_pre", width)
    if shape.image_pooling == "class":
        names |= {"visual.class_embedding": (width,), "visual.proj": (width, shape.dimension)}
    else:
        pool = "visual.pool"
        names |= {f"{pool}.probe": (1, 1, width), **_attention(f"{pool}.attn", width)}
        names |= _norm(f"{pool}.ln", width) | _mlp(f"{pool}.mlp", width, weights)
    return names


def _blocks(
    prefix: str, tower: Tower, weights: Mapping[str, torch.Tensor]
) -> dict[str, Dimensions]:
    names: dict[str, Dimensions] = {}
    for number in range(tower.layers):
        block = f"{prefix}.resblocks.{number}"
        names |= _norm(f"{block}.ln_1", tower.width) | _norm(f"{block}.ln_2", tower.width)
        names |= _attention(f"{block}.attn", tower.width)
        names |= _mlp(f"{block}.mlp", tower.width, weights)
    return names


def _attention(name: str, width: int) -> dict[str, Dimensions]:
    return {
        f"{name}.in_proj_weight": (3 * width, width),
        f"{name}.in_proj_bias": (3 * width,),
        f"{name}.out_proj.weight": (width, width),
        f"{name}.out_proj.bias": (width,),
    }


def _mlp(name: str, width: int, weights: Mapping[str, torch.Tensor]) -> dict[str, Dimensions]:
    first = f"{name}.c_fc.weight"
    hidden = len(weights[first]) if first in weights and weights[first].dim() else 4 * width
    return {
        first: (hidden, width),
        f"{name}.c_fc.bias": (hidden,),
        f"{name}.c_proj.weight": (width, hidden),
        f"{name}.c_proj.bias": (width,),
    }


def _norm(name: str, width: int) -> dict[str, Dimensions]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
