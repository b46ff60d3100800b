"""A picture's samples become those that a viewer shows, RGB or gray of 8 bits; where CLIP's own
`convert("RGB")` shows the same, nothing is changed. Samples of 16 bits are deep_samples' job.

Colour profiles are not looked at, as CLIP does not look at them: colours are those of sRGB.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from PIL import Image
from PIL.ImageFile import ImageFile

from glimpse.errors import InvalidImage
from glimpse.pictures.files import IMAGE_UNSUPPORTED, load

_MAX_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 281, 262, 0  # of TIFF

_GRAY_STEPS = {"L;2": 0x55, "L;4": 0x11}  # between gray levels, as Pillow spreads them
_COLOURS_OF_16_BITS = ("RGB;16", "RGBA;16", "RGBX;16")


@dataclass(frozen=True)
class Samples:
    """What a file says of its samples; to be asked before they are read."""

    raw: str  # Pillow's name of their layout in the file, such as "RGB;16B"; or ""
    most: int  # the largest that there is, or 0
    white_is_zero: bool
    transparent: Any  # as in Image.info, but on the scale on which Pillow gives the samples

    @classmethod
    def of(cls, opened: ImageFile) -> Samples:
        arguments = opened.tile[0][3] if opened.tile else ""
        raw = arguments if isinstance(arguments, str) else next(iter(arguments or ("",)))
        tags = getattr(opened, "tag_v2", {})
        (most,) = (tags.get(_MAX_SAMPLE) or (0,))[:1]  # of several colours, the first one's
        transparent = opened.info.get("transparency")
        if isinstance(raw, str) and isinstance(transparent, int):
            transparent *= _GRAY_STEPS.get(raw, 1)
        elif isinstance(transparent, tuple) and max(transparent) > 0xFF:
            transparent = tuple(each >> 8 for each in transparent)
        return cls(
            raw if isinstance(raw, str) else "",
            most if isinstance(most, int) else 0,
            tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO,
            transparent,
        )


def load_as_shown(opened: ImageFile) -> Image.Image:
    """The opened picture as a viewer shows it, in mode "RGB" or "L".

    White is behind what is transparent. Samples of 16 bits have the range that they use. Raises
    InvalidImage for samples of which nobody knows what is white, and whatever Pillow raises.
    """
    samples, source = Samples.of(opened), opened.fp
    image = load(opened)
    if image.mode.startswith(("I", "F")):
        from glimpse.pictures import deep_samples  # needs numpy, which a client may lack

        return deep_samples.gray(image, samples)
    if samples.transparent is not None:
        image.info["transparency"] = samples.transparent
    elif samples.raw.startswith(_COLOURS_OF_16_BITS) and isinstance(source, io.BytesIO):
        from glimpse.pictures import deep_samples

        image = deep_samples.with_low_bytes(image, samples, source.getvalue())
    if image.has_transparency_data:
        return _over_white(image)
    if image.mode in ("RGB", "L"):
        return image
    return _converted(image, "L" if image.mode == "1" else "RGB")


def _converted(image: Image.Image, mode: str) -> Image.Image:
    try:
        return image.convert(mode)
    except (ValueError, OSError) as error:
        raise InvalidImage(
            "image",
            f"colour mode {image.mode} cannot be converted to RGB",
            reason=IMAGE_UNSUPPORTED,
        ) from error


def _over_white(image: Image.Image) -> Image.Image:
    """A picture with alpha as it is seen on white."""
    if image.mode not in ("LA", "RGBA"):
        image = _converted(image, "LA" if image.mode == "La" else "RGBA")
    shown = Image.new("L" if image.mode == "LA" else "RGB", image.size, "white")
    shown.paste(image, (0, 0), image)
    return shown
