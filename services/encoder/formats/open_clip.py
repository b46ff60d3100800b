"""A folder as OpenCLIP publishes its CLIP models; what is not understood is refused by name.

Names and defaults are those of open_clip's CLIPVisionCfg, CLIPTextCfg and PreprocessCfg. Weights
are named as openai/CLIP's, those of newer models with `text.` before the text tower's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from glimpse.pictures.preprocessing import Interpolation, Preprocessing, Resize
from services.encoder.formats import described
from services.encoder.formats.described import Described, one_of, whole
from services.encoder.shape import CLIP_DEVIATION, CLIP_MEAN, Activation, Shape, Tower
from services.encoder.vocabulary import ClipVocabulary

Config = Mapping[str, Any]

CONFIG = "open_clip_config.json"
WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_model.bin",
    "open_clip_pytorch_model.bin",
)
"""The files that may hold the weights, the better one first."""

_SPECIAL_TOKENS = ("<start_of_text>", "<end_of_text>")  # as they are written in a text

# What changes nothing in use, or nothing that the weights' own shapes do not say.
_NEUTRAL = ("patch_dropout", "mlp_ratio", "output_tokens", "pos_embed_type", "pad_id")
_OF_MODEL = ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "init_logit_scale")
_OF_MODEL = (*_OF_MODEL, "init_logit_bias", "nonscalar_logit_scale", "custom_text")
_OF_VISION = ("layers", "width", "head_width", "patch_size", "image_size", "no_ln_pre")
_OF_TEXT = ("context_length", "vocab_size", "width", "heads", "layers", "proj_bias")
_OF_BOTH = ("act_kwargs", "norm_kwargs", *_NEUTRAL)
_OF_PIXELS = ("size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color")

# What configurations say at times although it is the default.
_DEFAULTS: Config = {
    "pool_type": ("tok", "argmax"),
    "proj_type": ("linear",),
    "text_arch": ("clip",),
}

_RESIZE = {"shortest": Resize.CROP, "squash": Resize.STRETCH}
_INTERPOLATION = {"bicubic": Interpolation.BICUBIC, "bilinear": Interpolation.BILINEAR}


def describe(folder: Path, weights: Mapping[str, torch.Tensor]) -> Described:
    """The model in the folder, whose weights are read. Raises ValueError."""
    config = described.read_json(folder / CONFIG)
    model, pixels = _object(config, "model_cfg"), _object(config, "preprocess_cfg", {})
    vision, text = _object(model, "vision_cfg"), _object(model, "text_cfg")
    for part, known in (
        (model, _OF_MODEL),
        (vision, (*_OF_VISION, *_OF_BOTH)),
        (text, (*_OF_TEXT, *_OF_BOTH)),
        (pixels, _OF_PIXELS),
    ):
        _check_known(part, known)
    quick = one_of(model, "quick_gelu", (True, False), False)
    activation: Activation = "quick_gelu" if quick else "gelu"
    image, patch_size = None, 0
    if not isinstance(vision.get("layers"), list):
        width = whole(vision, "width", 768)
        image = _tower(vision, width, width // whole(vision, "head_width", 64), activation)
        patch_size = whole(vision, "patch_size", 16)
    preprocessing, mean, deviation = _preprocessing(pixels, _side(vision, "image_size", 224))
    shape = Shape(
        family="OpenCLIP",
        dimension=whole(model, "embed_dim"),
        patch_size=patch_size,
        image=image,
        text=_tower(text, whole(text, "width", 512), whole(text, "heads", 8), activation),
        context_length=whole(text, "context_length", 77),
        vocabulary_size=whole(text, "vocab_size", 49_408),
        preprocessing=preprocessing,
        mean=mean,
        deviation=deviation,
        has_ln_pre=not one_of(vision, "no_ln_pre", (True, False), False),
        has_projection_bias=one_of(text, "proj_bias", (True, False), False),
    )
    return Described(shape, _renamed(weights), ClipVocabulary(*_SPECIAL_TOKENS))


def _object(config: Config, key: str, default: dict[str, Any] | None = None) -> dict[str, Any]:
    value = config.get(key, default)
    if not isinstance(value, dict):
        raise ValueError(f"{CONFIG} has no {key}")
    return value


def _check_known(part: Config, known: Collection[str]) -> None:
    """Whatever else is set changes what is computed: other towers, pooling, tokenizers."""
    for key, value in part.items():
        if key in known or value is None or value is False:
            continue
        if isinstance(value, str) and value in _DEFAULTS.get(key, ()):
            continue
        raise ValueError(f"{CONFIG} sets {key} to {value!r:.80}, which is not computed here")


def _tower(part: Config, width: int, heads: int, activation: Activation) -> Tower:
    act, norm = part.get("act_kwargs") or {}, part.get("norm_kwargs") or {}
    if act == {"approximate": "tanh"} and activation == "gelu":
        activation = "gelu_tanh"
    elif act:
        raise ValueError(f"act_kwargs {act} is not computed here")
    if set(norm) - {"eps"}:
        raise ValueError(f"norm_kwargs {norm} is not computed here")
    return Tower(
        width=width,
        layers=whole(part, "layers", 12),
        head_width=described.head_width(width, heads),
        activation=activation,
        epsilon=described.number(norm, "eps", 1e-5),
    )


def _side(part: Config, key: str, default: int) -> int:
    value = part.get(key, default)
    if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
        value = value[0]
    return whole({key: value}, key)


def _preprocessing(pixels: Config, image_size: int) -> tuple[Preprocessing, Any, Any]:
    if (size := _side(pixels, "size", image_size)) != image_size:
        raise ValueError(f"pictures of {size} pixels for a tower of {image_size}")
    preprocessing = Preprocessing(
        image_size,
        _RESIZE[one_of(pixels, "resize_mode", _RESIZE, "shortest")],
        _INTERPOLATION[one_of(pixels, "interpolation", _INTERPOLATION, "bicubic")],
    )
    mean = described.colours(pixels, "mean", CLIP_MEAN)
    return preprocessing, mean, described.colours(pixels, "std", CLIP_DEVIATION)


def _renamed(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    renamed = {name.removeprefix("text."): tensor for name, tensor in weights.items()}
    if "text_projection.weight" in renamed:  # a linear layer, where it has a bias
        renamed["text_projection"] = renamed.pop("text_projection.weight").t()
    if "text_projection.bias" in renamed:
        renamed["text_projection_bias"] = renamed.pop("text_projection.bias")
    return renamed
