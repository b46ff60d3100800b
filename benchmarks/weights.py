"""Random weights in the shape of CLIP's ViT-B/32 and of a small one; what they see means nothing.

With outliers they are as hard to round as trained ones, in which a few channels of every layer are
many times the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from services.encoder import openai_clip

_SEED = 1
_VIT_B_32 = {
    "embed_dim": 512,
    "image_resolution": 224,
    "vision_layers": 12,
    "vision_width": 768,
    "vision_patch_size": 32,
    "context_length": 77,
    "vocab_size": 49408,
    "transformer_width": 512,
    "transformer_heads": 8,
    "transformer_layers": 12,
}


_SMALL = _VIT_B_32 | {
    "embed_dim": 256,
    "image_resolution": 96,
    "vision_layers": 6,
    "vision_width": 256,
    "vision_patch_size": 16,
    "transformer_width": 128,
    "transformer_heads": 2,
    "transformer_layers": 3,
}
_OUTLIERS = {7: 20.0, 31: 8.0, 77: -12.0}  # channels of each layer norm, and their weights


def random_vit_b_32(folder: Path) -> Path:
    """The path of a state dict for ENCODER_MODEL, written at the first call."""
    return _written(folder / "vit-b-32-random.pt", _VIT_B_32, {})


def vit_b_32_with_outliers(folder: Path) -> Path:
    """As random_vit_b_32, and with outliers."""
    return _written(folder / "vit-b-32-outliers.pt", _VIT_B_32, _OUTLIERS)


def small_with_outliers(folder: Path) -> Path:
    """As vit_b_32_with_outliers, of a small model."""
    return _written(folder / "small-outliers.pt", _SMALL, _OUTLIERS)


def _written(path: Path, shape: Mapping[str, int], outliers: Mapping[int, float]) -> Path:
    """The text tower starts as openai/CLIP's `initialize_parameters` does; the image tower, for
    which CLIP relies on torch's defaults, is scaled in the same way."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(_SEED)
        model = openai_clip.new_model(**shape)
        with torch.no_grad():
            _scale(model.visual.transformer)
            for name, parameter in model.named_parameters():
                if ".ln_" in f".{name}" and name.endswith("weight"):
                    for channel, weight in outliers.items():
                        parameter[channel] = weight
        draft = path.with_suffix(".part")
        torch.save(model.state_dict(), draft)
        draft.replace(path)
    return path


def _scale(transformer: Any) -> None:
    """As CLIP.initialize_parameters scales the text tower's blocks."""
    width, layers = transformer.width, transformer.layers
    into_stream = width**-0.5 * (2 * layers) ** -0.5
    for name, parameter in transformer.named_parameters():
        if name.endswith("attn.in_proj_weight"):
            parameter.normal_(std=width**-0.5)
        elif name.endswith(("attn.out_proj.weight", "mlp.c_proj.weight")):
            parameter.normal_(std=into_stream)
        elif name.endswith("mlp.c_fc.weight"):
            parameter.normal_(std=(2 * width) ** -0.5)
