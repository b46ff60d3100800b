"""Linear layers in floating point or int8; which of them a model has is model.py's business.

In int8 a weight has one scale for each output, and an activation one for each row, found anew in
every call: nothing is calibrated, and a row's result does not depend on who shares its batch.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from services.encoder.hardware import cpu_has_int8

_WEIGHT_LEVELS = 127
# Activations reach from -127 to 127. Processors without dot products of int8 add pairs of products
# in 16 bits: two of 255 x 127 would not fit there, two of 127 x 127 do.
_LEVELS, _LEVELS_IN_16_BITS = 127, 63

_LEAST = 1e-30  # so that a row of zeros is not divided by zero

# A float32 from 2^23 to 2^24 is a whole number, and its lowest bits are that number's.
_WHOLE = 2.0**23


class Linear(Protocol):
    """x W' + b: float [T, in] -> [T, out] of the same dtype; may overwrite x."""

    def __call__(self, x: Tensor, /) -> Tensor: ...


class FloatLinear:
    """The layer in the dtype of its weights."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """Weight [out, in] and bias [out], of one dtype."""
        self._weight, self._bias = weight, bias

    def __call__(self, x: Tensor, /) -> Tensor:
        return F.linear(x, self._weight, self._bias)


class Int8Linear:
    """The layer in int8 on a CPU, between activations in fp32."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """Weight [out, in] and bias [out], float32."""
        self._product = Int8Product(weight)
        self._bias = bias
        self._levels = _LEVELS if cpu_has_int8() else _LEVELS_IN_16_BITS
        self._zero_point = self._levels + 1
        # As long as a row: torch has no fast operation for a row, a column and a number.
        self._whole = torch.full((weight.shape[1],), _WHOLE + self._zero_point)
        self._least = torch.tensor(_LEAST)

    def __call__(self, x: Tensor, /) -> Tensor:
        # Few operations matter as much as fast ones: for one text, calling them takes most time.
        largest = torch.maximum(x.amax(1, keepdim=True), x.amin(1, keepdim=True).neg_())
        scale = torch.add(self._least, largest, alpha=1 / self._levels)  # [T, 1]
        # Adding 2^23 rounds, and leaves the wanted byte lowest; int32 to uint8 keeps that one only.
        whole = torch.addcmul(self._whole, x, scale.reciprocal(), out=x)
        y = self._product(whole.view(torch.int32).to(torch.uint8), self._zero_point)
        return torch.addcmul(self._bias, y, scale, out=y)


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
