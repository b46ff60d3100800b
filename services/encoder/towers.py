"""CLIP's towers over their own weights, as fast as plain torch allows.

They compute what `clip.model.CLIP`, open_clip's CLIP, and transformers' CLIPModel and SiglipModel
compute (ResNets by openai's very class), with these differences, all exact but for rounding:

- The patch convolution is one matrix product, and the colours' normalisation is folded into it.
- QuickGELU, x * sigmoid(1.702 x), is silu(1.702 x) / 1.702, the factors folded into the weights.
- Where a token sees only those before it, texts are packed without padding: what follows the
  end-of-text token changes nothing and is never computed. SigLIP reads all of its context.
- Past its attention, the last layer goes on only with the positions that are read.
- The probe that pools SigLIP's image is the same for all of them: its products with the weights of
  keys are made once, and values only of what it has gathered.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from services.encoder import openai_clip
from services.encoder.blocks import Between, Blocks, Mlp, PackedRows, nothing
from services.encoder.shape import Shape, Tower
from services.encoder.weights import PIXEL_CENTRE, LinearNames, Operation, Weights


def _fillers(lengths: Sequence[int]) -> list[int]:
    """Lengths of sequences that nobody reads, beside those of texts: together they have one of few
    numbers of rows, eight between a power of two and the next.

    For each number of rows that oneDNN meets for the first time, it makes programs of more than a
    MB, and keeps them: hundreds of MB until all numbers have come, and 5 ms each time.
    """
    rows, longest = sum(lengths), max(lengths)
    missing = -rows % (1 << max(0, rows.bit_length() - 4))
    whole, rest = divmod(missing, longest)
    return [longest] * whole + [rest] * (rest > 0)


class TextTower:
    """Token ids of N texts of any length -> unit vectors, float32 [N, D]."""

    def __init__(self, weights: Weights, shape: Shape) -> None:
        self._device, self.context_length = weights.device, shape.context_length
        self._reads_highest, self.is_causal = shape.text_pooling == "highest", shape.causal
        self._head_width = shape.text.head_width
        self._embeddings = weights.table("token_embedding.weight")  # [vocabulary, W]
        self._positions = weights.one("positional_embedding")  # [context, W]
        self._blocks = Blocks(weights, "transformer", shape.text)
        self._ln_final = weights.norm("ln_final", shape.text.epsilon)
        self._projection = weights.one("text_projection")  # [W, D]
        self._bias = weights.one("text_projection_bias") if shape.has_projection_bias else None

    def __call__(self, texts: Sequence[NDArray[np.int64]]) -> Tensor:
        lengths = [self.length(ids) for ids in texts]
        tokens = [ids[:n] for ids, n in zip(texts, lengths, strict=True)]
        if self._device.type == "cpu":
            fillers = _fillers(lengths)
            lengths = [*lengths, *fillers]
            tokens += [np.zeros(n, np.int64) for n in fillers]
        packed = np.concatenate(tokens)
        places = np.concatenate([np.arange(n) for n in lengths])
        ends = torch.from_numpy(np.cumsum(lengths)[: len(texts)] - 1).to(self._device)
        x = self._embeddings[torch.from_numpy(packed).to(self._device)]  # [T, W]
        x = x + self._positions[torch.from_numpy(places).to(self._device)]
        return self._through(x, lengths, ends)

    def of_table(self, ids: Tensor, ends: Tensor) -> Tensor:
        """Of token ids [N, L], where those of the texts [N] end, counted through the table."""
        x = self._embeddings[ids] + self._positions[: ids.shape[1]]  # [N, L, W]
        return self._through(x.flatten(0, 1), [ids.shape[1]] * len(ids), ends)

    def _through(self, x: Tensor, lengths: Sequence[int], ends: Tensor) -> Tensor:
        rows = PackedRows(lengths, self._head_width, self._device)
        x = self._blocks(x, rows, self.is_causal, ends, nothing)  # [N, W]
        x = self._ln_final(x) @ self._projection  # [N, D]
        return _unit(x if self._bias is None else x + self._bias)

    def length(self, ids: NDArray[np.int64]) -> int:
        """Up to the place that is read. CLIP's is the first of the highest token, end-of-text."""
        return int(ids.argmax()) + 1 if self._reads_highest else len(ids)


class ImageTower:
    """uint8 RGB [N, S, S, 3] -> unit vectors, float32 [N, D], by patches."""

    def __init__(self, weights: Weights, shape: Shape, tower: Tower) -> None:
        self._patch_size, self._head_width = shape.patch_size, tower.head_width
        kernel = weights.exact("visual.conv1.weight").permute(0, 2, 3, 1)  # [W, p, p, 3]
        mean, deviation = kernel.new_tensor(shape.mean), kernel.new_tensor(shape.deviation)
        at_centre = (kernel * ((PIXEL_CENTRE / 255 - mean) / deviation)).sum((1, 2, 3))  # [W]
        if shape.has_patch_bias:
            at_centre = at_centre + weights.exact("visual.conv1.bias")
        self._patches = weights.in_floating_point().patches((kernel / 255 / deviation).flatten(1))
        positions = weights.exact("visual.positional_embedding")  # [rows of an image, W]
        self._first: Tensor | None = None  # [W]
        self._pool: _ClassPooling | _AttentionPooling
        if shape.image_pooling == "class":
            first = weights.exact("visual.class_embedding") + positions[0]
            self._first, positions = first.to(weights.dtype), positions[1:]
            self._pool = _ClassPooling(weights, tower)
        else:
            self._pool = _AttentionPooling(weights, tower)
        self._positions = (positions + at_centre).to(weights.dtype)  # [g * g, W]
        self._ln_pre: Operation = lambda x: x
        if shape.has_ln_pre:
            self._ln_pre = weights.norm("visual.ln_pre", tower.epsilon)
        self._blocks = Blocks(weights, "visual.transformer", tower)

    def __call__(self, pixels: Tensor, between: Between) -> Tensor:
        x = self._embed(pixels)
        length = len(x) // len(pixels)
        rows = PackedRows([length] * len(pixels), self._head_width, x.device)
        read = self._pool.rows_read(x, length)
        x = self._blocks(x, rows, False, read, between)
        return _unit(self._pool(x, len(pixels)))

    def _embed(self, pixels: Tensor) -> Tensor:
        """uint8 [N, S, S, 3] -> [T, W]: for each image its class embedding and its patches."""
        count, side = len(pixels), pixels.shape[1] // self._patch_size  # N, g
        if side * self._patch_size != pixels.shape[1]:  # no patch covers the last rows
            pixels = pixels[:, : side * self._patch_size, : side * self._patch_size].contiguous()
        x = pixels.view(count, side, self._patch_size, side, self._patch_size, 3)
        x = self._patches(x.transpose(2, 3).reshape(count * side * side, -1))  # [N * g * g, W]
        x = x.view(count, side * side, -1).add_(self._positions)
        if self._first is not None:
            x = torch.cat([self._first.expand(count, 1, -1), x], dim=1)
        return self._ln_pre(x.flatten(0, 1))  # [T, W]


class _ClassPooling:
    """An image's vector from the row of its class embedding, the first."""

    def __init__(self, weights: Weights, tower: Tower) -> None:
        self._ln_post = weights.norm("visual.ln_post", tower.epsilon)
        self._projection = weights.one("visual.proj")  # [W, D]

    def rows_read(self, x: Tensor, length: int) -> Tensor | None:
        return torch.arange(0, len(x), length, device=x.device)

    def __call__(self, x: Tensor, count: int) -> Tensor:
        """[N, W] -> [N, D]"""
        return self._ln_post(x) @ self._projection


class _AttentionPooling:
    """An image's vector from what a learned probe attends to, in H heads of width w.

    Of the probe's query q in a head, q (K x + b) = (q K) x + q b: the first is made once, and the
    second changes no softmax. The sum of a V x + c over the rows is V times that of a x, plus c.
    """

    def __init__(self, weights: Weights, tower: Tower) -> None:
        pool, width, head_width = "visual.pool", tower.width, tower.head_width
        heads = width // head_width
        self._ln_post = weights.norm("visual.ln_post", tower.epsilon)
        q, k, v = weights.exact(f"{pool}.attn.in_proj_weight").chunk(3)  # [W, W] each
        q_bias, _, v_bias = weights.exact(f"{pool}.attn.in_proj_bias").chunk(3)
        query = (q @ weights.exact(f"{pool}.probe").flatten() + q_bias) / head_width**0.5  # [W]
        keys = query.view(heads, 1, -1) @ k.view(heads, head_width, -1)  # [H, 1, W]
        self._keys = keys.squeeze(1).t().contiguous().to(weights.dtype)  # [W, H]
        self._values = v.view(heads, head_width, -1).transpose(1, 2).to(weights.dtype)  # [H, W, w]
        self._value_bias = v_bias.to(weights.dtype)
        out = f"{pool}.attn.out_proj"
        self._out = weights.linear(LinearNames(f"{out}.weight", f"{out}.bias"))
        self._mlp = Mlp(weights, f"{pool}.ln", f"{pool}.mlp", tower)

    def rows_read(self, x: Tensor, length: int) -> Tensor | None:
        return None  # all

    def __call__(self, x: Tensor, count: int) -> Tensor:
        """[T, W] -> [N, W]"""
        x = self._ln_post(x).view(count, -1, x.shape[1])  # [N, L, W]
        shares = (x @ self._keys).float().softmax(1).to(x.dtype)  # [N, L, H]
        gathered = (shares.transpose(1, 2) @ x).transpose(0, 1)  # [H, N, W]
        values = (gathered @ self._values).transpose(0, 1).flatten(1)  # [N, W]
        return self._mlp(self._out(values + self._value_bias))


class ResNetTower:
    """CLIP's own ModifiedResNet, unoptimised; takes and gives what ImageTower does."""

    def __init__(self, weights: Weights, shape: Shape) -> None:
        network = openai_clip.build_model(weights.stored()).get_submodule("visual")
        self._network = network.to(weights.device, weights.dtype)
        self._dtype = weights.dtype
        colours = torch.tensor([shape.mean, shape.deviation], device=weights.device)
        self._mean, self._deviation = colours[:, :, None, None]  # [3, 1, 1] each

    def __call__(self, pixels: Tensor, between: Between) -> Tensor:
        x = pixels.permute(0, 3, 1, 2) / 255  # [N, 3, S, S]
        x = (x - self._mean) / self._deviation
        return _unit(self._network(x.to(self._dtype)))


def _unit(x: Tensor) -> Tensor:
    """[N, D] of any dtype -> float32 of length 1; what has no direction stays without one."""
    return F.normalize(x.float(), dim=-1)
