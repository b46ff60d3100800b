"""Linear layers in int8 on a CPU: each output's weights have one scale, and each row of inputs.

A row's scale is found anew in every call, so that its result does not depend on who shares its
batch. What a layer's inputs usually are (services.encoder.inputs) moves magnitude between input and
weight beforehand, and takes the few channels that would leave no levels for the others out of int8.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from services.encoder.hardware import cpu_has_int8
from services.encoder.inputs import Inputs
from services.encoder.linear import NO_ACTIVATION, FoldedActivation, finished

_WEIGHT_LEVELS = 127

# Inputs are from 0 to this, their zero in the middle; behind an activation, which gives hardly
# anything below zero, at a tenth.
_LEVELS = 255
_MIDDLE, _LOW = 0.5, 0.1

# Processors without dot products of int8 add pairs of products in 16 bits, and cut off what does
# not fit. Fewer levels leave weights room for all but the rarest pairs.
_LEVELS_IN_16_BITS = 215
_MOST_IN_16_BITS = 2**15 - 1

# A channel of this many times the usual magnitude is computed in fp32, of one channel in so many.
_APART_PAST = 4.0
_CHANNELS_FOR_ONE_APART = 24

_LEAST = 1e-30  # so that a row of zeros is not divided by zero
_LEAST_SHARE = 1e-2  # of the usual magnitude, that a channel is taken to have

# A float32 from 2^23 to 2^24 is a whole number, and its lowest bits are that number's.
_WHOLE = 2.0**23


class Int8Tensors(NamedTuple):
    """All of a layer in int8 that depends on the model; the layer norm before it sees to its inputs
    being (x - centre) / divisor."""

    rounded: Tensor  # int8 [out, in], 0 in the channels apart
    scale: Tensor  # float32 [out], what the weight was divided by
    bias: Tensor  # float32 [out]
    apart: Tensor  # int64 [k], the channels that are computed in fp32
    weight_apart: Tensor  # float32 [k, out]
    centre: Tensor  # float32 [in]
    divisor: Tensor  # float32 [in]


class Int8Linear:
    """The layer in int8, between activations in fp32."""

    def __init__(
        self,
        tensors: Int8Tensors,
        activation: FoldedActivation = NO_ACTIVATION,
        is_lopsided: bool = False,
    ) -> None:
        """`is_lopsided`: inputs come from an activation."""
        levels = _levels()
        self._zero_point = round(levels * (_LOW if is_lopsided else _MIDDLE))
        above = levels - self._zero_point
        self._below_to_above, self._step = -above / self._zero_point, 1 / above
        self._apart = tensors.apart if len(tensors.apart) else None
        self._weight_apart = tensors.weight_apart
        self._product = Int8Product(tensors.rounded, tensors.scale)
        self._bias, self._activation = tensors.bias, activation
        # As long as a row: torch has no fast operation for a row, a column and a number.
        self._whole = torch.full((tensors.rounded.shape[1],), _WHOLE + self._zero_point)
        self._least = torch.tensor(_LEAST)

    def __call__(self, x: Tensor, onto: Tensor | None = None, /) -> Tensor:
        # Few operations matter as much as fast ones: for one text, calling them takes most time.
        exact = None
        if self._apart is not None:
            exact = x.index_select(1, self._apart)  # [T, k]
            x.index_fill_(1, self._apart, 0)
        below = x.amin(1, keepdim=True).mul_(self._below_to_above)
        largest = torch.maximum(x.amax(1, keepdim=True), below)
        scale = torch.add(self._least, largest, alpha=self._step)  # [T, 1]
        # Adding 2^23 rounds, and leaves the wanted byte lowest; int32 to uint8 keeps that one only.
        whole = torch.addcmul(self._whole, x, scale.reciprocal(), out=x)
        y = self._product(whole.view(torch.int32).to(torch.uint8), self._zero_point)
        torch.addcmul(self._bias, y, scale, out=y)
        if exact is not None:
            y.addmm_(exact, self._weight_apart)
        return finished(y, self._activation, onto)


class Int8Product:
    """x W' with W in int8 and x in uint8, which is what oneDNN has a fast product for."""

    def __init__(self, rounded: Tensor, scale: Tensor) -> None:
        """W ÷ its scale: int8 [out, in], float32 [out]."""
        self._product = torch.ops.onednn.qlinear_pointwise.default
        self._scale = scale
        self._packed = torch.ops.onednn.qlinear_prepack(rounded, None)
        self._zero_points = torch.zeros(len(rounded), dtype=torch.int64)  # W has none

    def __call__(self, x: Tensor, zero_point: int) -> Tensor:
        """(x - zero_point) W': uint8 [T, in] -> float32 [T, out]."""
        return self._product(
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


def round_to_int8(weight: Tensor, levels: int = _LEVELS) -> tuple[Tensor, Tensor]:
    """A weight, float32 [out, in], for inputs up to `levels`: int8 [out, in], and its scale,
    float32 [out]."""
    largest = weight.abs().amax(1).div_(_WEIGHT_LEVELS)
    if not cpu_has_int8():
        # As each of the two may be rounded up, one less.
        largest = torch.maximum(largest, _pairs(weight) / (_MOST_IN_16_BITS // levels - 1))
    scale = largest.clamp_(min=_LEAST)
    return weight.div(scale[:, None]).round_().to(torch.int8), scale


def _levels() -> int:
    return _LEVELS if cpu_has_int8() else _LEVELS_IN_16_BITS


def _pairs(weight: Tensor) -> Tensor:
    """[out]: the largest magnitude that the sum of two neighbours' share in a product can have."""
    pairs = F.pad(weight, (0, weight.shape[1] % 2)).unflatten(1, (-1, 2))
    above, below = pairs.clamp(min=0).sum(2), pairs.clamp(max=0).sum(2)
    return torch.maximum(above.amax(1), -below.amin(1))


class Fit(NamedTuple):
    """How a layer's inputs become easier to hold in int8, x -> (x - centre) / divisor."""

    centre: Tensor  # [in]
    divisor: Tensor  # [in]
    apart: Tensor  # [k]


def fit(weight: Tensor, inputs: Inputs | None, is_free: bool) -> Fit:
    """Of a weight [out, in], for inputs like those seen. `is_free`: whether the layer before can
    take up centre and divisor; else, and where nothing was seen, they are 0 and 1."""
    width, nowhere = weight.shape[1], torch.zeros(0, dtype=torch.int64)
    unchanged = Fit(torch.zeros(width), torch.ones(width), nowhere)
    if inputs is None:
        return unchanged
    reach = _not_too_small(inputs.deviation)
    if not is_free:
        return unchanged._replace(apart=_apart(reach))
    columns = _not_too_small(weight.square().mean(0).sqrt())
    # Both get what both have: neither rounds more than the other.
    return Fit(inputs.mean, (reach / columns).sqrt(), _apart((reach * columns).sqrt()))


def to_int8(weight: Tensor, bias: Tensor, fit: Fit) -> Int8Tensors:
    """A layer of weight [out, in] and bias [out], float32, for inputs that fit."""
    bias = bias + weight @ fit.centre
    weight = weight * fit.divisor
    weight_apart = weight[:, fit.apart].t().contiguous()
    rounded, scale = round_to_int8(weight.index_fill_(1, fit.apart, 0), _levels())
    return Int8Tensors(rounded, scale, bias, fit.apart, weight_apart, fit.centre, fit.divisor)


def _not_too_small(magnitudes: Tensor) -> Tensor:
    return magnitudes.clamp(min=float(magnitudes.square().mean().sqrt()) * _LEAST_SHARE + _LEAST)


def _apart(magnitudes: Tensor) -> Tensor:
    """The channels [k] that stand out, the largest of them if they are many."""
    most = max(1, len(magnitudes) // _CHANNELS_FOR_ONE_APART)
    largest, places = magnitudes.topk(most)
    return places[largest > _APART_PAST * magnitudes.median()]
