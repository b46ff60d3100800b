"""JPEG files: how cameras, phones and programs write them, and how they lose their ends."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from tests.corpus import reference
from tests.corpus.case import Case, Colours, refused
from tests.corpus.drawn import HEIGHT, WIDTH, colours_of, gray, picture, rgb, saved

_WITHIN = 3  # decoders differ by as much in rounding, and in how they spread colours
_TRUNCATED, _UNREADABLE = "IMAGE_TRUNCATED", "IMAGE_UNREADABLE"


def jpeg(image: Image.Image | None = None, **options: object) -> bytes:
    return saved(image or rgb(), "JPEG", **{"quality": 95, "subsampling": 0} | options)


def _case(name: str, make: Callable[[], bytes]) -> Case:
    return Case(f"jpeg/{name}", make, shown=lambda: reference.decoded(make()), within=_WITHIN)


def _turned(orientation: int) -> Case:
    exif = Image.Exif()
    exif[0x112] = orientation
    upright: dict[int, Callable[[Colours], Colours]] = {
        1: lambda seen: seen,
        2: lambda seen: seen[:, ::-1],
        3: lambda seen: seen[::-1, ::-1],
        4: lambda seen: seen[::-1],
        5: lambda seen: seen.transpose(1, 0, 2),
        6: lambda seen: seen.transpose(1, 0, 2)[:, ::-1],
        7: lambda seen: seen.transpose(1, 0, 2)[::-1, ::-1],
        8: lambda seen: seen.transpose(1, 0, 2)[::-1],
    }
    return Case(
        f"jpeg/turned-{orientation}.jpg",
        lambda: jpeg(exif=exif),
        shown=lambda: np.ascontiguousarray(upright[orientation](reference.decoded(jpeg()))),
        within=_WITHIN,
    )


def _mpo() -> bytes:
    file = io.BytesIO()
    options = {"quality": 95, "subsampling": 0}
    rgb().save(file, "MPO", save_all=True, append_images=[rgb().rotate(180)], **options)
    return file.getvalue()


@functools.cache
def noisy() -> Image.Image:
    """A picture whose every line differs from the others, as photographs are."""
    noise = np.random.default_rng(3).integers(-40, 40, (4 * HEIGHT, 4 * WIDTH, 3))
    large = np.asarray(rgb().resize((4 * WIDTH, 4 * HEIGHT)), np.int64)
    return Image.fromarray(np.clip(large + noise, 0, 255).astype(np.uint8))


def _with_white_foot() -> Image.Image:
    image = noisy().copy()
    image.paste("white", (0, image.height // 2, image.width, image.height))
    return image


def _cut(share: float, image: Callable[[], Image.Image] = noisy, **options: object) -> bytes:
    """Only the first part of a file."""
    content = jpeg(image(), **options)
    return content[: int(len(content) * share)]


def _without_end(image: Callable[[], Image.Image], **options: object) -> bytes:
    content = jpeg(image(), **options)
    assert content.endswith(b"\xff\xd9")
    return content[:-2]


def _endless(name: str, image: Callable[[], Image.Image], **options: object) -> Case:
    """What lacks its end marker shows the same as the whole file."""
    return Case(
        f"jpeg/{name}",
        lambda: _without_end(image, **options),
        shown=lambda: reference.decoded(jpeg(image(), **options)),
        within=_WITHIN,
    )


def _cmyk(inverted: bool) -> Case:
    """Ink, of which there is none where the picture is white."""
    colours = 255 - picture()
    ink = Image.fromarray(np.dstack((colours, np.zeros((HEIGHT, WIDTH), np.uint8))), "CMYK")
    content = jpeg(ink)
    name = "jpeg/cmyk-of-adobe.jpg" if inverted else "jpeg/cmyk.jpg"
    if not inverted:
        marker = content.index(b"Adobe")
        content = content[: marker - 4] + content[marker + 12 :]
        colours = 255 - colours
    return Case(name, lambda: content, shown=lambda: 255 - colours, within=8)


CASES = [
    _case("baseline.jpg", jpeg),
    _case("half-the-colours.jpg", lambda: jpeg(subsampling=2)),
    _case("progressive.jpg", lambda: jpeg(progressive=True)),
    _case("with-restarts.jpg", lambda: jpeg(restart_marker_rows=1)),
    _case("low-quality.jpg", lambda: jpeg(quality=10)),
    _case("named.png", jpeg),
    _case("long.jfif", lambda: jpeg(comment=b"a" * 60_000, icc_profile=bytes(200_000))),
    Case(
        "jpeg/gray.jpg",
        lambda: jpeg(Image.fromarray(gray())),
        shown=lambda: colours_of(reference.decoded(jpeg(Image.fromarray(gray())))[..., 0]),
        within=_WITHIN,
    ),
    _cmyk(inverted=True),
    Case(
        "jpeg/two-pictures.mpo.jpg", _mpo, shown=lambda: reference.decoded(jpeg()), within=_WITHIN
    ),
    *(_turned(orientation) for orientation in range(1, 9)),
    _case("with-film-behind.jpg", lambda: jpeg() + b"\0\0\0\x18ftypmp42" + bytes(10_000)),
    _endless("no-end.jpg", noisy),
    _endless("no-end-progressive.jpg", noisy, progressive=True),
    _endless("no-end-restarts.jpg", noisy, restart_marker_rows=1),
    _endless("no-end-white-foot.jpg", _with_white_foot),
    _endless("no-end-white.jpg", lambda: Image.new("RGB", (WIDTH, HEIGHT), "white")),
    Case("jpeg/no-last-lines.jpg", lambda: _cut(0.95)),
    Case("jpeg/no-fine-detail.jpg", lambda: _cut(0.6, progressive=True)),
    refused("jpeg/half.jpg", lambda: _cut(0.5), _TRUNCATED),
    refused("jpeg/half-with-restarts.jpg", lambda: _cut(0.5, restart_marker_rows=1), _TRUNCATED),
    refused("jpeg/half-turned.jpg", lambda: _cut(0.5, exif=_exif(6)), _TRUNCATED),
    refused("jpeg/first-part-progressive.jpg", lambda: _cut(0.01, progressive=True), _TRUNCATED),
    refused("jpeg/only-the-head.jpg", lambda: jpeg()[:400], _TRUNCATED),
    refused("jpeg/only-a-marker.jpg", lambda: b"\xff\xd8\xff", _UNREADABLE),
    refused("jpeg/page.jpg", lambda: b"<!DOCTYPE html><title>404 Not Found</title>", _UNREADABLE),
]


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x112] = orientation
    return exif
