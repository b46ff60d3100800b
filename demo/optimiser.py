"""Muon for the matrices of the blocks and AdamW for the rest, behind one step; knows no schedule.

Muon (Jordan et al. 2024) steps along the orthogonal factor of each matrix's momentum, found by a
Newton-Schulz iteration; torch's own runs it in bfloat16, which most CPUs multiply very slowly.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

_MOMENTUM = 0.95
# Coefficients of the quintic iteration, from Jordan et al., https://kellerjordan.github.io/posts/muon
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5
# Updates as large as AdamW's, so that both share one learning rate (Liu et al. 2025, Moonlight).
_UPDATE_SIZE = 0.2


class Optimiser:
    """Updates a network's parameters in place; the state is saved and restored with it."""

    def __init__(
        self, named: Iterable[tuple[str, torch.nn.Parameter]], weight_decay: float
    ) -> None:
        self._weight_decay = weight_decay
        self._matrices: list[torch.nn.Parameter] = []
        decayed, plain = [], []
        for name, parameter in named:
            if "resblocks" in name and parameter.ndim == 2:
                self._matrices.append(parameter)
            elif parameter.ndim >= 2 and "embedding" not in name:
                decayed.append(parameter)
            else:
                plain.append(parameter)
        self._momenta = [torch.zeros_like(matrix) for matrix in self._matrices]
        groups = [
            {"params": decayed, "weight_decay": weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        self._adam = torch.optim.AdamW(groups, betas=(0.9, 0.98), foreach=True)

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Apply the gradients of the parameters and clear them."""
        for group in self._adam.param_groups:
            group["lr"] = learning_rate
        self._adam.step()
        self._adam.zero_grad()
        by_shape: dict[torch.Size, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        for matrix, momentum in zip(self._matrices, self._momenta, strict=True):
            assert matrix.grad is not None
            momentum.lerp_(matrix.grad, 1 - _MOMENTUM)
            update = matrix.grad.lerp(momentum, _MOMENTUM)  # Nesterov's
            matrix.grad = None
            matrix.mul_(1 - learning_rate * self._weight_decay)
            # Queries, keys and values lie in one tall matrix but are three.
            parts = 3 if len(matrix) == 3 * matrix.shape[1] else 1
            for rows, part in zip(matrix.chunk(parts), update.chunk(parts), strict=True):
                by_shape.setdefault(rows.shape, []).append((rows, part))
        for shape, group in by_shape.items():
            size = learning_rate * _UPDATE_SIZE * max(shape) ** 0.5
            updates = orthogonal(torch.stack([part for _, part in group]))
            for (rows, _), update in zip(group, updates, strict=True):
                rows.sub_(update, alpha=size)

    def state_dict(self) -> dict[str, Any]:
        """Everything that `load_state_dict` needs to go on from here."""
        return {"momenta": self._momenta, "adam": self._adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state of the same network."""
        for momentum, saved in zip(self._momenta, state["momenta"], strict=True):
            momentum.copy_(saved)
        self._adam.load_state_dict(state["adam"])


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """Nearly orthogonal factors, float32 [n, rows, columns]: singular values about 1."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-12)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return x.mT if tall else x
