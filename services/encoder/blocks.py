"""The residual attention blocks that a tower is a stack of, over packed rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from services.encoder.linear import ACTIVATIONS, Linear
from services.encoder.shape import Tower
from services.encoder.weights import LinearNames, Operation, Weights

# Whoever waits is let in before every other block of an image batch. Who asks for texts without a
# pause takes a quarter of a CPU's images/s; before every fourth layer, he waits twice as long.
_LAYERS_BETWEEN = 2

Between = Callable[[], None]


def nothing() -> None:
    """What is done between layers where nothing waits."""


class Mlp:
    """What follows attention in a block, x + f(norm(x)): [T, W] -> [T, W]."""

    def __init__(self, weights: Weights, norm: str, name: str, tower: Tower) -> None:
        fc, proj = f"{name}.c_fc", f"{name}.c_proj"
        activation = ACTIVATIONS[tower.activation]
        scale = activation.scale
        self._norm, self._fc = weights.normed(  # W -> 4W
            norm,
            tower.epsilon,
            LinearNames(f"{fc}.weight", f"{fc}.bias", scale, scale),
            activation,
        )
        self._proj = weights.linear(
            LinearNames(f"{proj}.weight", f"{proj}.bias", 1 / scale), is_behind_activation=True
        )

    def __call__(self, x: Tensor) -> Tensor:
        return self._proj(self._fc(self._norm(x)), x)


class Block(NamedTuple):
    """One residual attention block; W is the tower's width."""

    norm: Operation
    qkv: Linear  # W -> 3W
    out: Linear  # W -> W
    mlp: Mlp


def _made(weights: Weights, prefix: str, tower: Tower) -> Iterator[Block]:
    """The blocks in turn. In int8, what the first one rounds off does a third of all harm, and past
    the attention of the last one there are few rows: both are in floating point."""
    finer, last = weights.in_floating_point(), tower.layers - 1
    for number in range(tower.layers):
        yield _block(
            weights if number else finer,
            weights if 0 < number < last else finer,
            f"{prefix}.resblocks.{number}",
            tower,
        )


def _block(attention: Weights, rest: Weights, block: str, tower: Tower) -> Block:
    """One block, of the weights for attention's inputs and for what follows."""
    attn = f"{block}.attn"
    norm, qkv = attention.normed(
        f"{block}.ln_1",
        tower.epsilon,
        LinearNames(f"{attn}.in_proj_weight", f"{attn}.in_proj_bias"),
    )
    out = rest.linear(LinearNames(f"{attn}.out_proj.weight", f"{attn}.out_proj.bias"))
    return Block(norm, qkv, out, Mlp(rest, f"{block}.ln_2", f"{block}.mlp", tower))


class PackedRows:
    """How the packed rows [T, W] of N sequences stand in a table of N x L positions."""

    def __init__(self, lengths: Sequence[int], head_width: int, device: torch.device) -> None:
        self._count, self._longest, self._head_width = len(lengths), max(lengths), head_width
        self._places: Tensor | None = None
        if min(lengths) < self._longest:  # otherwise rows and table are the same
            table = np.arange(self._longest) < np.array(lengths)[:, None]  # [N, L]
            self._places = torch.from_numpy(np.flatnonzero(table)).to(device)

    def split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[T, 3W] -> three of [N, heads, L, head width], zeros where a sequence has ended."""
        if self._places is not None:
            table = qkv.new_zeros(self._count * self._longest, qkv.shape[1])
            qkv = table.index_copy_(0, self._places, qkv)
        table = qkv.view(self._count, self._longest, 3, -1, self._head_width)
        q, k, v = table.permute(2, 0, 3, 1, 4).unbind()
        return q, k, v

    def join(self, attended: Tensor) -> Tensor:
        """[N, heads, L, head width] -> [T, W]."""
        table = attended.transpose(1, 2).reshape(self._count * self._longest, -1)
        return table if self._places is None else table[self._places]


def _attend(
    x: Tensor, layer: Block, rows: PackedRows, causal: bool, read: Tensor | None = None
) -> Tensor:
    """One residual attention block, [T, W] -> [T, W]; only of the rows `read` if they are given."""
    q, k, v = rows.split(layer.qkv(layer.norm(x)))
    attended = rows.join(F.scaled_dot_product_attention(q, k, v, is_causal=causal))
    if read is not None:
        x, attended = x[read], attended[read]
    return layer.mlp(layer.out(attended, x))


class Blocks:
    """All blocks of a tower; of a model whose inputs are noted, one stands in memory at a time."""

    def __init__(self, weights: Weights, prefix: str, tower: Tower) -> None:
        self._last = tower.layers - 1
        self._blocks: Callable[[], Iterable[Block]] = partial(_made, weights, prefix, tower)
        if not weights.are_observed:
            made = list(self._blocks())
            self._blocks = lambda: made

    def __call__(
        self, x: Tensor, rows: PackedRows, causal: bool, read: Tensor | None, between: Between
    ) -> Tensor:
        """[T, W] -> [T, W]; in the end only of the rows `read`, if they are given."""
        for number, layer in enumerate(self._blocks()):
            is_last = number == self._last
            if number % _LAYERS_BETWEEN == 0 and not is_last:
                between()
            x = _attend(x, layer, rows, causal, read if is_last else None)
        return x
