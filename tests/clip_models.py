"""Small untrained CLIPs in openai/CLIP's own format, for tests that need a model and no meaning."""

from __future__ import annotations

from pathlib import Path

import torch

from services.encoder import checkpoint, openai_clip
from services.encoder.checkpoint import Checkpoint
from services.encoder.download import WeightsFile
from services.encoder.formats.openai import VOCABULARY_SIZE

TINY = {
    "embed_dim": 48,
    "image_resolution": 32,
    "vision_layers": 2,
    "vision_width": 128,
    "vision_patch_size": 8,
    "context_length": 77,
    "vocab_size": VOCABULARY_SIZE,
    "transformer_width": 64,
    "transformer_heads": 1,
    "transformer_layers": 2,
}
TINY_RESNET = TINY | {"image_resolution": 64, "vision_layers": (1, 1, 1, 1), "vision_width": 64}
VIT_B_32 = {
    "embed_dim": 512,
    "image_resolution": 224,
    "vision_layers": 12,
    "vision_width": 768,
    "vision_patch_size": 32,
    "context_length": 77,
    "vocab_size": VOCABULARY_SIZE,
    "transformer_width": 512,
    "transformer_heads": 8,
    "transformer_layers": 12,
}


def untrained(seed: int = 0, **hyper_parameters) -> torch.nn.Module:
    """An untrained `clip.model.CLIP`, the same for the same seed."""
    torch.manual_seed(seed)
    model = openai_clip.new_model(**(hyper_parameters or TINY)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Biases and norms begin as zeros and ones, which would hide mistakes with them.
            if name.endswith("bias"):
                parameter.normal_(std=0.05)
            elif "ln_" in name or ".bn" in name:
                parameter.normal_(1.0, 0.1)
    return model


def saved(path: Path, seed: int = 0, **hyper_parameters) -> Path:
    """The state dict of an untrained CLIP as a file."""
    torch.save(untrained(seed, **hyper_parameters).state_dict(), path)
    return path


def read(path: Path, name: str = "model", sha256: str | None = None) -> Checkpoint:
    """The checkpoint in a bare file, which does not say that it is openai/CLIP's."""
    return checkpoint.read(WeightsFile(name, path, sha256), "quick_gelu")
