"""A checkpoint's tensors in the form that a precision computes with; the towers are model.py's."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from services.encoder.hardware import Precision, cpu_has_bf16
from services.encoder.inputs import Inputs, ObservedLinear
from services.encoder.int8_linear import Fit, Int8Linear, fit
from services.encoder.linear import (
    NO_ACTIVATION,
    Bf16InFp32,
    FloatLinear,
    FoldedActivation,
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


Operation = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LinearNames:
    """A linear layer: what its tensors are called, and by what each is multiplied."""

    weight: str
    bias: str
    weight_scale: float = 1.0
    bias_scale: float = 1.0


class Weights:
    """Hands out weights by their names in openai/CLIP, computed in fp32, in the precision.

    That they are there, checkpoint.py has checked. `inputs`, by the names of the weights: in int8,
    the layers are made for those; in another precision, they note theirs there.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        device: torch.device,
        precision: Precision,
        inputs: dict[str, Inputs] | None = None,
    ) -> None:
        self.tensors, self.device, self.dtype = tensors, device, _DTYPES[precision]
        self._is_int8, self._inputs = precision == "int8", inputs
        self._layer_dtype = self.dtype
        is_packed = device.type == "cpu" and PackedLinear.is_possible(self.dtype)
        self._float_layer = PackedLinear if is_packed else FloatLinear

    def in_floating_point(self) -> Weights:
        """These, for linear layers that int8 would cost most: in bf16 where the CPU has it."""
        if not self._is_int8:
            return self
        weights = copy.copy(self)
        weights._is_int8, weights._inputs = False, None
        if cpu_has_bf16() and PackedLinear.is_possible(torch.bfloat16):
            weights._layer_dtype = torch.bfloat16
        return weights

    def exact(self, name: str) -> Tensor:
        return self.tensors[name].to(self.device, torch.float32)

    def one(self, name: str, scale: float = 1.0) -> Tensor:
        exact = self.exact(name)
        return (exact if scale == 1 else exact * scale).to(self.dtype)

    def norm(self, name: str, epsilon: float, fit: Fit | None = None) -> Operation:
        """A layer norm over the last dimension."""
        weight, bias = self.one(f"{name}.weight"), self.one(f"{name}.bias")
        if fit is not None:
            weight, bias = weight / fit.divisor, (bias - fit.centre) / fit.divisor
        width = weight.shape
        return lambda x: F.layer_norm(x, width, weight, bias, epsilon)

    def linear(
        self,
        names: LinearNames,
        activation: FoldedActivation = NO_ACTIVATION,
        is_behind_activation: bool = False,
    ) -> Linear:
        """A layer whose inputs are what they are."""
        weight, bias = self._tensors_of(names)
        if not self._is_int8:
            return self._float(names, weight, bias, activation)
        found = self._fit(names, weight, is_free=False)
        apart = found.apart if found else None
        return Int8Linear(weight, bias, activation, is_behind_activation, apart)

    def normed(
        self,
        norm: str,
        epsilon: float,
        names: LinearNames,
        activation: FoldedActivation = NO_ACTIVATION,
    ) -> tuple[Operation, Linear]:
        """A layer norm, and the layer that alone takes what it gives: they may share out factors
        among each other."""
        weight, bias = self._tensors_of(names)
        if not self._is_int8:
            return self.norm(norm, epsilon), self._float(names, weight, bias, activation)
        found = self._fit(names, weight, is_free=True)
        if found is None:
            return self.norm(norm, epsilon), Int8Linear(weight, bias, activation)
        layer = Int8Linear(
            weight * found.divisor, bias + weight @ found.centre, activation, apart=found.apart
        )
        return self.norm(norm, epsilon, found), layer

    def _tensors_of(self, names: LinearNames) -> tuple[Tensor, Tensor]:
        return self.one(names.weight, names.weight_scale), self.one(names.bias, names.bias_scale)

    def _float(
        self, names: LinearNames, weight: Tensor, bias: Tensor, activation: FoldedActivation
    ) -> Linear:
        dtype = self._layer_dtype
        layer: Linear = self._float_layer(weight.to(dtype), bias.to(dtype), activation)
        if dtype != self.dtype:
            layer = Bf16InFp32(layer)
        if self._inputs is None:
            return layer
        return ObservedLinear(layer, self._inputs.setdefault(names.weight, Inputs()))

    def _fit(self, names: LinearNames, weight: Tensor, is_free: bool) -> Fit | None:
        inputs = (self._inputs or {}).get(names.weight)
        return fit(weight, inputs, is_free) if inputs else None

    def patches(self, kernel: Tensor) -> Operation:
        """(x - PIXEL_CENTRE) K' for the kernel K, float32 [W, n], and pixels x, uint8 [T, n]."""
        dtype = self._layer_dtype  # what is returned must not keep this object, with all tensors
        layer, wanted = self._float_layer((kernel * _STEP).to(dtype), None), self.dtype
        return lambda x: layer(x.to(dtype).sub_(PIXEL_CENTRE).div_(_STEP)).to(wanted)
