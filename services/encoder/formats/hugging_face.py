"""A folder as transformers saves its CLIPModel and SiglipModel; what is not understood is refused.

Names, defaults and arithmetic are those of transformers' models `clip` and `siglip`. SigLIP 2 of a
fixed resolution is saved as `siglip`; `siglip2` is the one that takes pictures of any resolution.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from glimpse.pictures.preprocessing import Interpolation, Preprocessing, Resize
from services.encoder.formats import described
from services.encoder.formats.described import Described, one_of, whole
from services.encoder.shape import Activation, Shape, Tower
from services.encoder.vocabulary import VocabularyFile

Config = Mapping[str, Any]

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""The files that hold the weights, the better one first."""

_TOKENIZER, _TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"

# What SigLIP's authors put the names of things into.
_SIGLIP_PROMPT = "this is a photo of {}."


@dataclass(frozen=True)
class _Kind:
    """What a configuration leaves out, and what it cannot say."""

    activation: Activation
    epsilon: float
    text: Config
    vision: Config


_KINDS = {
    "clip": _Kind(
        "quick_gelu",
        1e-5,
        {"vocab_size": 49_408, "hidden_size": 512, "heads": 8, "max_position_embeddings": 77},
        {"hidden_size": 768, "heads": 12, "image_size": 224, "patch_size": 32},
    ),
    "siglip": _Kind(
        "gelu_tanh",
        1e-6,
        {"vocab_size": 32_000, "hidden_size": 768, "heads": 12, "max_position_embeddings": 64},
        {"hidden_size": 768, "heads": 12, "image_size": 224, "patch_size": 16},
    ),
}

_RESAMPLING = {2: Interpolation.BILINEAR, 3: Interpolation.BICUBIC}

# The tokenizers that tokenizer.json says all of, but for lower case; unlike SigLIP 1's.
_CLIP_TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast")
_SIGLIP_TOKENIZERS = ("Siglip2Tokenizer", "GemmaTokenizer", "GemmaTokenizerFast")


def describe(folder: Path, weights: Mapping[str, torch.Tensor]) -> Described:
    """The model in the folder, whose weights are read. Raises ValueError, OSError or KeyError."""
    config = described.read_json(folder / "config.json")
    name = one_of(config, "model_type", _KINDS)
    text, vision = (_part(config, part) for part in ("text_config", "vision_config"))
    kind = _KINDS[name]
    if whole(vision, "num_channels", 3) != 3:
        raise ValueError("num_channels is not 3")
    image_tower, text_tower = _tower(vision, kind, kind.vision), _tower(text, kind, kind.text)
    image_size = whole(vision, "image_size", kind.vision["image_size"])
    preprocessing, mean, deviation = _preprocessing(folder, image_size)
    common = {
        "patch_size": whole(vision, "patch_size", kind.vision["patch_size"]),
        "image": image_tower,
        "text": text_tower,
        "context_length": whole(
            text, "max_position_embeddings", kind.text["max_position_embeddings"]
        ),
        "vocabulary_size": whole(text, "vocab_size", kind.text["vocab_size"]),
        "preprocessing": preprocessing,
        "mean": mean,
        "deviation": deviation,
    }
    if name == "clip":
        _check_end(text, common["vocabulary_size"])
        dimension = whole(config, "projection_dim", 512)
        shape = Shape(family="Hugging Face CLIP", dimension=dimension, **common)
        return Described(shape, _renamed(weights), _clip_vocabulary(folder))
    shape = _siglip(text, vision, common)
    return Described(shape, _renamed(weights), _siglip_vocabulary(folder), _SIGLIP_PROMPT)


def _part(config: Config, name: str) -> dict[str, Any]:
    """A tower's configuration; `…_dict`, of old releases, goes before it, with its defaults."""
    part, old = config.get(name) or {}, config.get(f"{name}_dict")
    if not isinstance(part, dict) or not isinstance(old, (dict, type(None))):
        raise ValueError(f"{name} is no JSON object")
    return part if old is None else old


def _tower(part: Config, kind: _Kind, defaults: Config) -> Tower:
    width = whole(part, "hidden_size", defaults["hidden_size"])
    heads = whole(part, "num_attention_heads", defaults["heads"])
    return Tower(
        width=width,
        layers=whole(part, "num_hidden_layers", 12),
        head_width=described.head_width(width, heads),
        activation=described.activation(part, "hidden_act", kind.activation),
        epsilon=described.number(part, "layer_norm_eps", kind.epsilon),
    )


def _check_end(text: Config, vocabulary_size: int) -> None:
    """The highest token ends a text; in configurations of old releases, 2 means the same."""
    end = whole(text, "eos_token_id", 49_407)
    if end not in (2, vocabulary_size - 1):
        raise ValueError(f"eos_token_id is {end}, not the highest of {vocabulary_size} tokens")


def _siglip(text: Config, vision: Config, common: dict[str, Any]) -> Shape:
    one_of(vision, "vision_use_head", (True,), True)
    width = common["image"].width
    dimension = whole(text, "projection_size", common["text"].width)
    if dimension != width:
        raise ValueError(f"texts' vectors have {dimension} values, and images' {width}")
    return Shape(
        family="SigLIP",
        dimension=dimension,
        image_pooling="attention",
        text_pooling="last",
        causal=False,
        has_ln_pre=False,
        has_patch_bias=True,
        has_projection_bias=True,
        **common,
    )


def _clip_vocabulary(folder: Path) -> VocabularyFile:
    config = described.read_json(folder / _TOKENIZER_CONFIG)
    one_of(config, "tokenizer_class", _CLIP_TOKENIZERS)
    return VocabularyFile(_tokenizer(folder))


def _siglip_vocabulary(folder: Path) -> VocabularyFile:
    config = described.read_json(folder / _TOKENIZER_CONFIG)
    kind = one_of(config, "tokenizer_class", _SIGLIP_TOKENIZERS)
    added = [one_of(config, f"add_{name}_token", (True, False), False) for name in ("bos", "eos")]
    is_said = "add_bos_token" in config or "add_eos_token" in config
    return VocabularyFile(
        _tokenizer(folder),
        is_lowered=kind == "Siglip2Tokenizer",
        added=(added[0], added[1]) if is_said else None,
        padding=one_of(config, "padding_side", ("left", "right"), "left"),
    )


def _tokenizer(folder: Path) -> bytes:
    try:
        return (folder / _TOKENIZER).read_bytes()
    except OSError as error:
        raise ValueError(
            f"{_TOKENIZER}: {error.strerror}; transformers writes one with save_pretrained of the "
            "model's tokenizer"
        ) from error


def _preprocessing(folder: Path, image_size: int) -> tuple[Preprocessing, Any, Any]:
    """How pictures become pixels, and the pixels' mean and deviation."""
    config = _processor(folder)
    for step in ("do_resize", "do_rescale", "do_normalize"):
        one_of(config, step, (True,), True)
    if abs(described.number(config, "rescale_factor", 1 / 255) * 255 - 1) > 1e-4:
        raise ValueError("rescale_factor is not 1/255")
    is_cropped = one_of(config, "do_center_crop", (True, False, None), "crop_size" in config)
    size = config.get("size")
    size = {"shortest_edge": size} if isinstance(size, int) else size
    crop = config.get("crop_size")
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
    square = {"height": image_size, "width": image_size}
    if is_cropped and size == {"shortest_edge": image_size} and crop == square:
        resize = Resize.CROP_DOWN
    elif not is_cropped and size == square:
        resize = Resize.STRETCH
    else:
        raise ValueError(
            f"size {size} and crop_size {crop} of the image processor do not make a square of "
            f"{image_size} by the short side and a crop, or by both sides"
        )
    interpolation = _RESAMPLING[one_of(config, "resample", _RESAMPLING)]
    mean, deviation = (described.colours(config, key) for key in ("image_mean", "image_std"))
    return Preprocessing(image_size, resize, interpolation), mean, deviation


def _processor(folder: Path) -> Config:
    """The image processor's configuration, which newer releases save with the tokenizer's."""
    path = folder / "preprocessor_config.json"
    if path.exists():
        return described.read_json(path)
    path = folder / "processor_config.json"
    if path.exists():
        config = described.read_json(path).get("image_processor")
        if isinstance(config, dict):
            return config
    raise ValueError(
        "preprocessor_config.json is missing: mean, deviation and resizing stand there"
    )


# From transformers' names to those of openai/CLIP.
_NAMES = [
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^text_model\.embeddings\.token_embedding\.weight$", "token_embedding.weight"),
        (r"^text_model\.embeddings\.position_embedding\.weight$", "positional_embedding"),
        (r"^text_model\.encoder\.layers\.", "transformer.resblocks."),
        (r"^text_model\.final_layer_norm\.", "ln_final."),
        (r"^text_model\.head\.bias$", "text_projection_bias"),
        (r"^vision_model\.embeddings\.class_embedding$", "visual.class_embedding"),
        (r"^vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
        (r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.positional_embedding"),
        (r"^vision_model\.encoder\.layers\.", "visual.transformer.resblocks."),
        (r"^vision_model\.pre_layrnorm\.", "visual.ln_pre."),
        (r"^vision_model\.post_layernorm\.", "visual.ln_post."),
        (r"^vision_model\.head\.attention\.", "visual.pool.attn."),
        (r"^vision_model\.head\.layernorm\.", "visual.pool.ln."),
        (r"^vision_model\.head\.", "visual.pool."),
        (r"\.layer_norm([12])\.", r".ln_\1."),
        (r"\.self_attn\.", ".attn."),
        (r"\.mlp\.fc1\.", ".mlp.c_fc."),
        (r"\.mlp\.fc2\.", ".mlp.c_proj."),
    )
]
# Linear layers there, and matrices that are multiplied from the right here.
_TRANSPOSED = {
    "text_projection.weight": "text_projection",
    "text_model.head.weight": "text_projection",
    "visual_projection.weight": "visual.proj",
}
_JOINED = re.compile(r"^(.*\.attn\.)q_proj\.(weight|bias)$")


def _renamed(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        if name in _TRANSPOSED:
            renamed[_TRANSPOSED[name]] = tensor.t()
            continue
        for pattern, replacement in _NAMES:
            name = pattern.sub(replacement, name)
        renamed[name] = tensor
    for name in list(renamed):
        if found := _JOINED.match(name):
            block, kind = found.groups()
            parts = [renamed.pop(f"{block}{each}_proj.{kind}") for each in "qkv"]
            renamed[f"{block}in_proj_{kind}"] = torch.cat(parts)
    return renamed
