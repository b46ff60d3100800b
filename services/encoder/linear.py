"""Linear layers in floating point or int8, and what comes right behind them.

Which of them a model has, services.encoder.weights says. In int8 a weight has one scale for each
output, and an input one for each row, found anew in every call: nothing is calibrated, and a row's
result does not depend on who shares its batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from services.encoder.hardware import cpu_has_int8
from services.encoder.shape import Activation

_WEIGHT_LEVELS = 127
# Activations reach from -127 to 127. Processors without dot products of int8 add pairs of products
# in 16 bits: two of 255 x 127 would not fit there, two of 127 x 127 do.
_LEVELS, _LEVELS_IN_16_BITS = 127, 63

_LEAST = 1e-30  # so that a row of zeros is not divided by zero

# A float32 from 2^23 to 2^24 is a whole number, and its lowest bits are that number's.
_WHOLE = 2.0**23

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
        product = torch.ops.mkldnn._linear_pointwise
        if onto is None:
            return product(x, self._weight, self._bias, *self._behind)
        return product.binary(x, onto, self._weight, self._bias, "add")


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
        return _behind(F.linear(x, self._weight, self._bias), self._activation, onto)


class Int8Linear:
    """The layer in int8 on a CPU, between activations in fp32."""

    def __init__(
        self, weight: Tensor, bias: Tensor, activation: FoldedActivation = NO_ACTIVATION
    ) -> None:
        """Weight [out, in] and bias [out], float32."""
        self._product = Int8Product(weight)
        self._bias, self._activation = bias, activation
        self._levels = _LEVELS if cpu_has_int8() else _LEVELS_IN_16_BITS
        self._zero_point = self._levels + 1
        # As long as a row: torch has no fast operation for a row, a column and a number.
        self._whole = torch.full((weight.shape[1],), _WHOLE + self._zero_point)
        self._least = torch.tensor(_LEAST)

    def __call__(self, x: Tensor, onto: Tensor | None = None, /) -> Tensor:
        # Few operations matter as much as fast ones: for one text, calling them takes most time.
        largest = torch.maximum(x.amax(1, keepdim=True), x.amin(1, keepdim=True).neg_())
        scale = torch.add(self._least, largest, alpha=1 / self._levels)  # [T, 1]
        # Adding 2^23 rounds, and leaves the wanted byte lowest; int32 to uint8 keeps that one only.
        whole = torch.addcmul(self._whole, x, scale.reciprocal(), out=x)
        y = self._product(whole.view(torch.int32).to(torch.uint8), self._zero_point)
        return _behind(torch.addcmul(self._bias, y, scale, out=y), self._activation, onto)


class Int8Product:
    """x W' with W in int8 and x in uint8, which is what oneDNN has a fast product for."""

    def __init__(self, weight: Tensor) -> None:
        """Weight [out, in], float32."""
        self._scale = weight.abs().amax(1).clamp_(min=_LEAST).div_(_WEIGHT_LEVELS)  # [out]
        rounded = weight.div(self._scale[:, None]).round_().to(torch.int8)
        self._packed = torch.ops.onednn.qlinear_prepack(rounded, None)
        self._zero_points = torch.zeros(len(weight), dtype=torch.int64)  # W has none

    def __call__(self, x: Tensor, zero_point: int) -> Tensor:
        """(x - zero_point) W': uint8 [T, in] -> float32 [T, out]."""
        return torch.ops.onednn.qlinear_pointwise(
            x,
            1.0,
            zero_point,
            self._packed,
            self._scale,
            self._zero_points,
            None,  # no bias: a row's scale comes first
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )


def _behind(y: Tensor, activation: FoldedActivation, onto: Tensor | None) -> Tensor:
    """What a linear layer does with its product, y, which it overwrites."""
    y = activation.function(y)
    return y if onto is None else y.add_(onto)
