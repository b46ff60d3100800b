"""Random weights in the shape of CLIP's ViT-B/32, for speed alone: what they see means nothing."""

from __future__ import annotations

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


def random_vit_b_32(folder: Path) -> Path:
    """The path of a state dict for ENCODER_MODEL, written at the first call.

    The text tower starts as openai/CLIP's `initialize_parameters` does; the image tower, for which
    CLIP relies on torch's defaults, is scaled in the same way.
    """
    path = folder / "vit-b-32-random.pt"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(_SEED)
        model = openai_clip.new_model(**_VIT_B_32)
        with torch.no_grad():
            _scale(model.visual.transformer)
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
