"""What comes into a model's linear layers, noted while it computes in fp32.

What int8 makes of that is services.encoder.int8_linear's job.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from services.encoder.linear import Linear


class Inputs:
    """Mean and deviation of each channel of one layer's inputs. Any thread may add rows."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows = 0
        self._sum: Tensor | float = 0.0
        self._squares: Tensor | float = 0.0

    def add(self, x: Tensor) -> None:
        """Takes in the rows of x, float [T, in]."""
        total, squares = x.sum(0).double(), x.square().sum(0).double()
        with self._lock:
            self._rows += len(x)
            self._sum, self._squares = self._sum + total, self._squares + squares

    @property
    def mean(self) -> Tensor:
        """float32 [in], of at least one row."""
        return torch.as_tensor(self._sum / self._rows).float()

    @property
    def deviation(self) -> Tensor:
        """float32 [in], of at least one row."""
        mean = torch.as_tensor(self._sum / self._rows)
        return (torch.as_tensor(self._squares / self._rows) - mean**2).clamp(min=0).sqrt().float()


class ObservedLinear:
    """A layer whose inputs are noted."""

    def __init__(self, layer: Linear, inputs: Inputs) -> None:
        self._layer, self._inputs = layer, inputs

    def __call__(self, x: Tensor, onto: Tensor | None = None, /) -> Tensor:
        self._inputs.add(x)
        return self._layer(x, onto)
