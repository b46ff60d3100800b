"""Linear layers in floating point, and what comes right behind those of any kind.

Which of them a model has, services.encoder.weights says; those in int8 are int8_linear.py's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from services.encoder.shape import Activation

# Rows for which a packed weight's order is chosen; it serves any number of them.
_USUAL_ROWS = 256


class FoldedActivation(NamedTuple):
    """An activation f(x) = g(s x) / s, with s folded into the layers around it."""

    scale: float
    function: Callable[[Tensor], Tensor]  # g; overwrites x
    in_onednn: tuple[str, str]  # g's name there, and that of its formula


NO_ACTIVATION = FoldedActivation(1.0, lambda x: x, ("none", ""))
ACTIVATIONS: dict[Activation, FoldedActivation] = {
    "quick_gelu": FoldedActivation(1.702, lambda x: F.silu(x, inplace=True), ("swish", "")),
    "gelu": FoldedActivation(1.0, lambda x: torch.ops.aten.gelu_(x), ("gelu", "none")),
    "gelu_tanh": FoldedActivation(
        1.0, lambda x: torch.ops.aten.gelu_(x, approximate="tanh"), ("gelu", "tanh")
    ),
}


class Linear(Protocol):
    """g(x W' + b): float [T, in] -> [T, out] of the same dtype; may overwrite x.

    A layer without an activation g adds that to `onto` [T, out], and leaves `onto` as it is.
    """

    def __call__(self, x: Tensor, onto: Tensor | None = None, /) -> Tensor: ...


class PackedLinear:
    """The layer in floating point on a CPU, its weight in the order in which oneDNN reads it.

    A product with a plain weight puts that into order in each call, which for the rows of a few
    images takes a sixth of its time. What comes behind the product is done on what is in the cache.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        activation: FoldedActivation = NO_ACTIVATION,
    ) -> None:
        """Weight [out, in] and bias [out], of a dtype for which this is possible."""
        operation = torch.ops.mkldnn._linear_pointwise
        self._product, self._sum = operation.default, operation.binary
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _USUAL_ROWS)
        self._bias = bias
        name, formula = activation.in_onednn
        self._behind = (name, [], formula)

    @staticmethod
    def is_possible(dtype: torch.dtype) -> bool:
        """Whether this processor, and this build of torch, have it in the dtype."""
        if not torch.backends.mkldnn.is_available():
            return False
        return dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())

    def __call__(self, x: Tensor, onto: Tensor | None = None, /) -> Tensor:
        if onto is None:
            return self._product(x, self._weight, self._bias, *self._behind)
        return self._sum(x, onto, self._weight, self._bias, "add")


class FloatLinear:
    """The layer in the dtype of its weights, on any device."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        activation: FoldedActivation = NO_ACTIVATION,
    ) -> None:
        """Weight [out, in] and bias [out], of one dtype."""
        self._weight, self._bias, self._activation = weight, bias, activation

    def __call__(self, x: Tensor, onto: Tensor | None = None, /) -> Tensor:
        return finished(F.linear(x, self._weight, self._bias), self._activation, onto)


class Bf16InFp32:
    """A layer in bf16 between activations in fp32."""

    def __init__(self, layer: Linear) -> None:
        self._layer = layer

    def __call__(self, x: Tensor, onto: Tensor | None = None, /) -> Tensor:
        y = self._layer(x.bfloat16()).float()
        return y if onto is None else y.add_(onto)


def finished(y: Tensor, activation: FoldedActivation, onto: Tensor | None) -> Tensor:
    """What a linear layer does with its product, y, which it overwrites."""
    y = activation.function(y)
    return y if onto is None else y.add_(onto)
