"""A checkpoint's tensors in the form that a precision computes with; the towers are model.py's."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from services.encoder.checkpoint import Checkpoint, CheckpointError
from services.encoder.hardware import Precision, cpu_has_bf16
from services.encoder.inputs import Inputs, ObservedLinear
from services.encoder.int8_linear import Int8Linear, Int8Tensors, fit, to_int8
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

    That they are there, checkpoint.py has checked; that they are finite is checked here, where they
    are read. In int8, layers whose Int8Tensors are among them are taken as they are (a layer's are
    named as its weight, a dot, and the field); those of the others are noted in `made`, if given.
    `inputs`, by the names of the weights: in int8, the layers are made for those; in another
    precision, they note theirs there.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device,
        precision: Precision,
        inputs: dict[str, Inputs] | None = None,
        made: dict[str, Tensor] | None = None,
    ) -> None:
        self._tensors, self._model = checkpoint.weights, checkpoint.name
        self.device, self.dtype = device, _DTYPES[precision]
        self._is_int8, self._inputs, self._made = precision == "int8", inputs, made
        self._layer_dtype = self.dtype
        is_packed = device.type == "cpu" and PackedLinear.is_possible(self.dtype)
        self._float_layer = PackedLinear if is_packed else FloatLinear

    @property
    def are_observed(self) -> bool:
        """Whether layers note their inputs."""
        return self._inputs is not None and not self._is_int8

    def in_floating_point(self) -> Weights:
        """These, for linear layers that int8 would cost most: in bf16 where the CPU has it."""
        if not self._is_int8:
            return self
        weights = copy.copy(self)
        weights._is_int8, weights._inputs = False, None
        if cpu_has_bf16() and PackedLinear.is_possible(torch.bfloat16):
            weights._layer_dtype = torch.bfloat16
        return weights

    def stored(self) -> dict[str, Tensor]:
        """All of them, in the dtype in which they are stored, on the CPU."""
        return {name: self._finite(name) for name in self._tensors}

    def exact(self, name: str) -> Tensor:
        # A copy: what is mapped from a file changes when somebody writes to that.
        return self._finite(name).to(self.device, torch.float32, copy=True)

    def _finite(self, name: str) -> Tensor:
        tensor = self._tensors[name]
        # A sum shows it in a tenth of the time, but may itself be too large.
        is_finite = tensor.sum(dtype=torch.float32).isfinite() or tensor.isfinite().all()
        if not is_finite:
            raise CheckpointError(f"{self._model}: {name} holds a number that is not finite")
        return tensor

    def one(self, name: str, scale: float = 1.0) -> Tensor:
        exact = self.exact(name)
        return (exact if scale == 1 else exact * scale).to(self.dtype)

    def table(self, name: str) -> Tensor:
        """What rows are picked out of; in int8 in fp16, as published models have it: of a text
        tower's numbers that is a third."""
        if not self._is_int8:
            return self.one(name)
        table = self._finite(name).to(torch.float16, copy=True)
        if not table.isfinite().all():
            return self.one(name)
        if self._made is not None:
            self._made[name] = table
        return table

    def norm(self, name: str, epsilon: float, behind: Int8Tensors | None = None) -> Operation:
        """A layer norm over the last dimension, for the layer that alone takes what it gives."""
        weight, bias = self.one(f"{name}.weight"), self.one(f"{name}.bias")
        if behind is not None:
            weight, bias = weight / behind.divisor, (bias - behind.centre) / behind.divisor
        width = weight.shape
        return lambda x: F.layer_norm(x, width, weight, bias, epsilon)

    def linear(
        self,
        names: LinearNames,
        activation: FoldedActivation = NO_ACTIVATION,
        is_behind_activation: bool = False,
    ) -> Linear:
        """A layer whose inputs are what they are."""
        if not self._is_int8:
            return self._float(names, activation)
        return Int8Linear(self._int8(names, is_free=False), activation, is_behind_activation)

    def normed(
        self,
        norm: str,
        epsilon: float,
        names: LinearNames,
        activation: FoldedActivation = NO_ACTIVATION,
    ) -> tuple[Operation, Linear]:
        """A layer norm, and the layer that alone takes what it gives: they may share out factors
        among each other."""
        if not self._is_int8:
            return self.norm(norm, epsilon), self._float(names, activation)
        tensors = self._int8(names, is_free=True)
        return self.norm(norm, epsilon, tensors), Int8Linear(tensors, activation)

    def _tensors_of(self, names: LinearNames) -> tuple[Tensor, Tensor]:
        return self.one(names.weight, names.weight_scale), self.one(names.bias, names.bias_scale)

    def _float(self, names: LinearNames, activation: FoldedActivation) -> Linear:
        (weight, bias), dtype = self._tensors_of(names), self._layer_dtype
        layer: Linear = self._float_layer(weight.to(dtype), bias.to(dtype), activation)
        if dtype != self.dtype:
            layer = Bf16InFp32(layer)
        if self._inputs is None:
            return layer
        return ObservedLinear(layer, self._inputs.setdefault(names.weight, Inputs()))

    def _int8(self, names: LinearNames, is_free: bool) -> Int8Tensors:
        kept = {field: f"{names.weight}.{field}" for field in Int8Tensors._fields}
        if kept["rounded"] in self._tensors:
            return Int8Tensors(**{field: self._tensors[name] for field, name in kept.items()})
        weight, bias = self._tensors_of(names)
        inputs = (self._inputs or {}).get(names.weight)
        tensors = to_int8(weight, bias, fit(weight, inputs, is_free))
        if self._made is not None:
            self._made |= {name: getattr(tensors, field) for field, name in kept.items()}
        return tensors

    def patches(self, kernel: Tensor) -> Operation:
        """(x - PIXEL_CENTRE) K' for the kernel K, float32 [W, n], and pixels x, uint8 [T, n]."""
        dtype = self._layer_dtype  # what is returned must not keep this object, with all tensors
        layer, wanted = self._float_layer((kernel * _STEP).to(dtype), None), self.dtype
        return lambda x: layer(x.to(dtype).sub_(PIXEL_CENTRE).div_(_STEP)).to(wanted)
