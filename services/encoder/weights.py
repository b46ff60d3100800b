"""A checkpoint's tensors in the form that a precision computes with; the towers are model.py's."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from services.encoder.hardware import Precision, cpu_has_int8
from services.encoder.linear import (
    NO_ACTIVATION,
    FloatLinear,
    FoldedActivation,
    Int8Linear,
    Int8Product,
    Linear,
    PackedLinear,
)

# Pixels enter the matrix product as (value - 128) / 64, which every float type holds exactly.
PIXEL_CENTRE, _STEP = 128, 64

# Around its linear layers, an int8 model computes in fp32.
_DTYPES = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "int8": torch.float32,
}


class Weights:
    """Hands out weights by their names in openai/CLIP, computed in fp32, in the precision.

    That they are there, checkpoint.py has checked.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], device: torch.device, precision: Precision
    ) -> None:
        self.tensors, self.device, self.dtype = tensors, device, _DTYPES[precision]
        self._is_int8 = precision == "int8"
        is_packed = device.type == "cpu" and PackedLinear.is_possible(self.dtype)
        self._float_layer = PackedLinear if is_packed else FloatLinear

    def exact(self, name: str) -> Tensor:
        return self.tensors[name].to(self.device, torch.float32)

    def one(self, name: str, scale: float = 1.0) -> Tensor:
        exact = self.exact(name)
        return (exact if scale == 1 else exact * scale).to(self.dtype)

    def norm(self, name: str, epsilon: float) -> Callable[[Tensor], Tensor]:
        """A layer norm over the last dimension."""
        weight, bias = self.one(f"{name}.weight"), self.one(f"{name}.bias")
        width = weight.shape
        return lambda x: F.layer_norm(x, width, weight, bias, epsilon)

    def linear(
        self,
        weight: str,
        bias: str,
        weight_scale: float = 1.0,
        bias_scale: float = 1.0,
        activation: FoldedActivation = NO_ACTIVATION,
    ) -> Linear:
        layer = Int8Linear if self._is_int8 else self._float_layer
        return layer(self.one(weight, weight_scale), self.one(bias, bias_scale), activation)

    def patches(self, kernel: Tensor) -> Callable[[Tensor], Tensor]:
        """(x - PIXEL_CENTRE) K' for the kernel K, float32 [W, n], and pixels x, uint8 [T, n]."""
        if self._is_int8 and cpu_has_int8():  # pixels are 8 bits wide, and too wide for 16-bit sums
            product = Int8Product(kernel)
            return lambda x: product(x, PIXEL_CENTRE)
        dtype = self.dtype  # what is returned must not keep this object, and with it all tensors
        layer = self._float_layer((kernel * _STEP).to(dtype), None)
        return lambda x: layer(x.to(dtype).sub_(PIXEL_CENTRE).div_(_STEP))
