"""Pictures with the statistics of photographs, drawn from numbers: no file is needed for them.

Things of every size lie over each other before a backdrop, each with a colour, a shade and a
texture. Textures have all scales, with amplitudes that fall with frequency as in photographs, or
are stripes. Colours vary most in brightness, less from blue to yellow, least from green to red.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Field = NDArray[np.float32]  # [side, side]
Picture = NDArray[np.float32]  # [side, side, 3], RGB, about 0 to 1

_SEED = 20
_MOST_THINGS = 12
# How far colours reach in brightness, from blue to yellow, from green to red; each in R, G, B.
_AXES = np.array([[0.20, 0.20, 0.20], [0.07, 0.01, -0.09], [0.05, -0.05, 0.01]], np.float32)
_SLOPES = (0.8, 1.2, 1.6)  # of amplitudes over frequency: as in grass, in most photographs, in fog
_STRIPED, _GRAY = 0.25, 0.1  # shares of surfaces, of pictures


def draw(number: int, side: int) -> NDArray[np.uint8]:
    """uint8 RGB [side, side, 3], the same for the same number in every process."""
    dice = np.random.default_rng([_SEED, number])
    canvas = _Canvas(dice, side)
    picture = canvas.surface()
    sizes = dice.pareto(1.5, dice.integers(1, _MOST_THINGS)) * 0.1 + 0.05
    for size in np.sort(sizes.clip(max=0.9))[::-1]:  # small things lie before large ones
        picture += canvas.outline(float(size))[..., None] * (canvas.surface() - picture)
    return _exposed(dice, picture)


class _Canvas:
    """What one picture's things are made of."""

    def __init__(self, dice: Generator, side: int) -> None:
        self._dice, self._side = dice, side
        self._across, self._down = np.meshgrid(*2 * [np.linspace(-1, 1, side, dtype=np.float32)])
        self._textures = [self._texture(slope) for slope in _SLOPES]

    def surface(self) -> Picture:
        """A colour that changes in one direction, and a texture upon it."""
        dice = self._dice
        colour, shade = dice.standard_normal((2, 3), np.float32) @ _AXES
        ramp = self._along(_angle(dice)) * dice.uniform(0, 1.2)
        texture = self._textures[dice.integers(len(_SLOPES))]
        texture = np.roll(texture, dice.integers(0, self._side, 2), (0, 1))
        if dice.random() < _STRIPED:
            place = self._along(_angle(dice)) + 0.05 * texture
            texture = np.sin(math.exp(dice.uniform(1, 4)) * place)
        contrast = dice.gamma(1.0, 0.5) * (dice.random() * _AXES[0] + dice.normal() * _AXES[1])
        return 0.45 + colour + ramp[..., None] * shade + texture[..., None] * contrast

    def outline(self, size: float) -> Field:
        """1 within a thing somewhere, 0 outside: a round, square or pointed one, more or less
        sharp."""
        dice, angle = self._dice, _angle(self._dice)
        stretch = math.exp(dice.uniform(-1, 1))
        x = np.abs(self._along(angle) - dice.uniform(-1, 1)) * stretch
        y = np.abs(self._along(angle + math.pi / 2) - dice.uniform(-1, 1)) / stretch
        distance = (np.hypot, np.maximum, np.add)[dice.integers(3)](x, y)
        sharpness = self._side / 2 * math.exp(dice.uniform(-2, 0))
        return ((size - distance) * sharpness + 0.5).clip(0, 1)

    def _along(self, angle: float) -> Field:
        direction = np.array([math.cos(angle), math.sin(angle)], np.float32)
        return direction[0] * self._across + direction[1] * self._down

    def _texture(self, slope: float) -> Field:
        """Noise of mean 0 and deviation 1."""
        side = self._side
        frequencies = np.hypot(np.fft.rfftfreq(side), np.fft.fftfreq(side)[:, None])
        frequencies[0, 0] = np.inf
        real, imaginary = self._dice.standard_normal((2, *frequencies.shape))
        field = np.fft.irfft2((real + 1j * imaginary) / frequencies**slope, (side, side))
        return (field / field.std()).astype(np.float32)


def _angle(dice: Generator) -> float:
    return dice.uniform(0, 2 * math.pi)


def _exposed(dice: Generator, picture: Picture) -> NDArray[np.uint8]:
    """With the contrast and brightness of some photograph, or in gray."""
    if dice.random() < _GRAY:
        picture = np.broadcast_to(picture.mean(2, keepdims=True), picture.shape)
    picture = 0.5 + (picture - 0.5) * dice.uniform(0.6, 1.6) + dice.normal(0, 0.1)
    return (picture * 255).clip(0, 255).astype(np.uint8)
