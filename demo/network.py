"""The bundled model's shape, a fast forward over CLIP's own parameters, and its file format.

The forward gives what `clip.model.CLIP` gives (a test compares them) in less time: attention laid
out for short sequences, and the last vision block computed for the class position only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from demo.dataset import SILENT, Vocabulary
from services.encoder import openai_clip

IMAGE_SIZE = 64
VOCABULARY_SIZE = 49408
START, END = VOCABULARY_SIZE - 2, VOCABULARY_SIZE - 1
SHAPE = {
    "embed_dim": 512,
    "image_resolution": IMAGE_SIZE,
    "vision_layers": 6,
    "vision_width": 192,
    "vision_patch_size": 16,
    "context_length": 77,
    "transformer_width": 128,
    "transformer_heads": 2,
    "transformer_layers": 3,
}
# CLIP's own, from openai/CLIP clip/clip.py.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def new_network(vocabulary: Vocabulary) -> Any:
    """An untrained CLIP whose embedding has one row per compact id of `vocabulary`."""
    network: Any = openai_clip.new_model(vocab_size=len(vocabulary), **SHAPE)
    with torch.no_grad():
        network.token_embedding.weight[SILENT].zero_()
    return network


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """float32 [n, 3, size, size] from uint8 [n, size, size, 3], as CLIP's preprocessing does."""
    mean, std = (
        pixels.new_tensor(MEAN, dtype=torch.float32),
        pixels.new_tensor(STD, dtype=torch.float32),
    )
    return ((pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2)


def encode_images(network: Any, images: torch.Tensor) -> torch.Tensor:
    """Unit vectors float32 [n, 512] of normalised images [n, 3, size, size]."""
    visual = network.visual
    width, _, patch, _ = visual.conv1.weight.shape
    count, grid = len(images), images.shape[-1] // patch
    patches = images.reshape(count, 3, grid, patch, grid, patch).permute(0, 2, 4, 1, 3, 5)
    x = patches.reshape(count, grid * grid, -1) @ visual.conv1.weight.reshape(width, -1).t()
    x = torch.cat([visual.class_embedding.expand(count, 1, width), x], 1)
    x = visual.ln_pre(x + visual.positional_embedding)
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        x = _block(block, x, len(x[0]))
    x = _block(last, x, 1)[:, 0]
    return F.normalize(visual.ln_post(x) @ visual.proj, dim=-1)


def encode_texts(network: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Unit vectors float32 [k, 512] of compact tokens int64 [k, length]; the largest is the end."""
    length = tokens.shape[1]
    x = F.embedding(tokens, network.token_embedding.weight, padding_idx=SILENT)
    x = x + network.positional_embedding[:length]
    mask = network.transformer.resblocks[0].attn_mask[:length, :length]
    for block in network.transformer.resblocks:
        x = _block(block, x, length, mask)
    x = x[torch.arange(len(x)), tokens.argmax(-1)]
    return F.normalize(network.ln_final(x) @ network.text_projection, dim=-1)


def _block(block: Any, x: torch.Tensor, out: int, mask: torch.Tensor | None = None) -> torch.Tensor:
    """One residual attention block, [n, length, width] to [n, out, width]: the first `out` rows."""
    count, length, width = x.shape
    heads = block.attn.num_heads
    normal = block.ln_1(x)
    weight, bias = block.attn.in_proj_weight, block.attn.in_proj_bias
    if out == length:
        projected = F.linear(normal, weight, bias).view(count, length, 3, heads, -1)
        queries, keys, values = projected.permute(2, 0, 3, 1, 4).unbind(0)
    else:
        queries = F.linear(normal[:, :out], weight[:width], bias[:width])
        queries = queries.view(count, out, heads, -1).transpose(1, 2)
        projected = F.linear(normal, weight[width:], bias[width:]).view(count, length, 2, heads, -1)
        keys, values = projected.permute(2, 0, 3, 1, 4).unbind(0)
    scores = (queries * (width // heads) ** -0.5) @ keys.transpose(-1, -2)
    mixed = (scores if mask is None else scores + mask).softmax(-1) @ values
    x = x[:, :out] + block.attn.out_proj(mixed.transpose(1, 2).reshape(count, out, width))
    inner = block.mlp.c_fc(block.ln_2(x))
    # QuickGELU, x * sigmoid(1.702 x), as the fused SiLU.
    return x + block.mlp.c_proj(F.silu(1.702 * inner) * (1 / 1.702))


def checkpoint_weights(
    state: dict[str, torch.Tensor], vocabulary: Vocabulary
) -> dict[str, torch.Tensor]:
    """float16 weights for the whole of CLIP's vocabulary; rows of words never used are zero."""
    weights = {name: tensor.detach().half().contiguous() for name, tensor in state.items()}
    compact = weights["token_embedding.weight"]
    full = compact.new_zeros(VOCABULARY_SIZE, compact.shape[1])
    full[torch.tensor(vocabulary.tokens)] = compact[1:]
    return weights | {"token_embedding.weight": full}


def load(path: Path) -> Any:
    """The reference `clip.model.CLIP` with the weights of a checkpoint file."""
    return openai_clip.build_model(torch.load(path, map_location="cpu", weights_only=True))
