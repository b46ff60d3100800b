"""Preprocessing: the same pixels as CLIP, and a reason for every file that is no picture."""

from __future__ import annotations

import contextlib
import io
import math
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from glimpse.encoder.v1 import encoder_pb2 as pb
from glimpse.errors import InvalidImage
from glimpse.pictures import files as picture_files
from glimpse.pictures import preprocess
from glimpse.pictures.preprocess import decode
from glimpse.pictures.preprocessing import (
    PREPROCESSING_VERSION,
    Interpolation,
    Preprocessing,
    Resize,
)
from glimpse.query.v1 import query_pb2

MAX_PIXELS = 4_000_000


def noise(width: int, height: int, channels: int = 3) -> Image.Image:
    random = np.random.default_rng((width, height, channels))
    samples = random.integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(samples[..., 0] if channels == 1 else samples)


def file_of(image: Image.Image, file_format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def clip_pixels(image: Image.Image, size: int) -> np.ndarray:
    """CLIP's transform before ToTensor, written from its description and not from our code."""
    width, height = image.size
    if width <= height:
        image = image.resize((size, int(size * height / width)), Image.Resampling.BICUBIC)
    else:
        image = image.resize((int(size * width / height), size), Image.Resampling.BICUBIC)
    left = round((image.width - size) / 2.0)
    top = round((image.height - size) / 2.0)
    return np.asarray(image.crop((left, top, left + size, top + size)).convert("RGB"))


def reason_of(content: bytes, max_pixels: int = MAX_PIXELS) -> str:
    with pytest.raises(InvalidImage) as caught:
        decode(content, Preprocessing(32), max_pixels)
    assert caught.value.field == "image"
    return caught.value.reason


@pytest.mark.parametrize("size", [64, 224, 336])
@pytest.mark.parametrize(
    "shape", [(640, 480), (480, 641), (225, 224), (224, 224), (50, 61), (1, 1), (7, 100)]
)
def test_pixels_equal_those_of_clip(shape: tuple[int, int], size: int) -> None:
    image = noise(*shape)
    decoded = decode(file_of(image), Preprocessing(size), MAX_PIXELS)
    assert decoded.pixels.shape == (size, size, 3)
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.flags.c_contiguous
    assert (decoded.pixels == clip_pixels(image, size)).all()
    assert (decoded.width, decoded.height, decoded.format) == (*shape, "PNG")


def test_gray_is_treated_as_clip_treats_it() -> None:
    image = noise(90, 70, 1)
    assert (
        decode(file_of(image), Preprocessing(48), MAX_PIXELS).pixels == clip_pixels(image, 48)
    ).all()


@pytest.mark.parametrize("interpolation", Interpolation)
def test_a_model_that_sees_all_of_a_picture_gets_it_stretched(interpolation: Interpolation) -> None:
    image = noise(90, 70)
    filter = Image.Resampling[interpolation.name]
    seen = Preprocessing(48, Resize.STRETCH, interpolation)
    expected = np.asarray(image.resize((48, 48), filter))
    assert (decode(file_of(image), seen, MAX_PIXELS).pixels == expected).all()


def test_what_changes_pixels_changes_the_fingerprint() -> None:
    assert Preprocessing(224).fingerprint == f"224px/v{PREPROCESSING_VERSION}"
    seen = {
        Preprocessing(size, resize, interpolation).fingerprint
        for size in (224, 256)
        for resize in Resize
        for interpolation in Interpolation
    }
    assert len(seen) == 2 * len(Resize) * len(Interpolation)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ours, getattr(contract, ours.__name__))
        for ours in (Resize, Interpolation)
        for contract in (pb, query_pb2)
    ],
)
def test_preprocessing_is_numbered_as_in_the_contracts(ours, theirs) -> None:
    prefix = theirs.DESCRIPTOR.name.upper()
    expected = {f"{prefix}_{each.name}": each.value for each in ours}
    assert dict(theirs.items()) == {f"{prefix}_UNSPECIFIED": 0, **expected}


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_format_that_is_promised_is_read(file_format: str) -> None:
    content = file_of(noise(60, 40), file_format)
    decoded = decode(content, Preprocessing(32), MAX_PIXELS)
    assert decoded.format == file_format
    assert (decoded.pixels == clip_pixels(Image.open(io.BytesIO(content)).convert("RGB"), 32)).all()


def test_cmyk_photographs_are_read_as_clip_reads_them() -> None:
    content = file_of(noise(60, 40).convert("CMYK"), "JPEG")
    expected = clip_pixels(Image.open(io.BytesIO(content)), 32)
    assert (decode(content, Preprocessing(32), MAX_PIXELS).pixels == expected).all()


def test_real_photographs_equal_those_of_clip() -> None:
    paths = sorted(photographs())
    assert paths, "scikit-image brings sample photographs"
    for path in paths[::8] if len(paths) > 40 else paths:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            if image.getexif().get(0x0112, 1) != 1:
                continue
            expected = clip_pixels(image, 224)
        assert (decode(content, Preprocessing(224), MAX_PIXELS).pixels == expected).all(), path.name


def photographs() -> list[Path]:
    """Sample pictures of scikit-image and scikit-learn, and one's own folder if it is there."""
    import skimage.data
    import sklearn.datasets

    folders = [
        Path(skimage.data.__file__).parent,
        Path(sklearn.datasets.__file__).parent / "images",
        Path(
            os.environ.get("GLIMPSE_TEST_PHOTOS")
            or Path(__file__).parents[2] / ".." / "shared" / "photos"
        ),
    ]
    suffixes = {".jpg", ".jpeg", ".png"}
    found = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
    return [path for path in found if path.suffix.lower() in suffixes]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotated_photographs_are_seen_as_viewers_show_them(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = file_of(noise(80, 40), "JPEG", quality=95, exif=exif)
    stored = Image.open(io.BytesIO(content))
    turns = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_90],
        6: [Image.Transpose.ROTATE_270],
        7: [Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_270],
        8: [Image.Transpose.ROTATE_90],
    }
    upright: Image.Image = stored
    for turn in turns.get(orientation, []):
        upright = upright.transpose(turn)
    decoded = decode(content, Preprocessing(32), MAX_PIXELS)
    assert (decoded.width, decoded.height) == upright.size
    assert (decoded.pixels == clip_pixels(upright, 32)).all()


def test_a_broken_exif_block_spoils_no_picture() -> None:
    content = file_of(noise(40, 40), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff\x01\x12")
    assert decode(content, Preprocessing(32), MAX_PIXELS).pixels.shape == (32, 32, 3)


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "lime", "blue")]
    for file_format in ("GIF", "WEBP"):
        content = file_of(frames[0], file_format, save_all=True, append_images=frames[1:])
        red, green, blue = decode(content, Preprocessing(32), MAX_PIXELS).pixels[16, 16]
        assert red > 240
        assert max(green, blue) < 15


def test_gray_of_16_bits_is_scaled_and_not_clipped() -> None:
    samples = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    for file_format in ("PNG", "TIFF"):
        pixels = decode(
            file_of(Image.fromarray(samples), file_format), Preprocessing(64), MAX_PIXELS
        ).pixels
        assert pixels[0, 0, 0] == 0
        assert pixels[-1, -1, 0] == 255
        assert np.abs(pixels[..., 0].astype(int) - samples // 257).max() <= 1


@pytest.mark.parametrize("mode", ["F", "I"])
def test_samples_without_a_known_white_are_refused(mode: str) -> None:
    image = Image.fromarray(np.full((8, 8), 100_000, np.float32 if mode == "F" else np.int32))
    assert reason_of(file_of(image, "TIFF")) == picture_files.IMAGE_UNSUPPORTED


@pytest.mark.parametrize("shape", [(1, 10_000), (10_000, 1), (2, 9_001), (30_000, 3)])
def test_very_long_pictures_stay_small_and_show_their_middle(shape: tuple[int, int]) -> None:
    width, height = shape
    ramp = np.linspace(0, 255, max(shape)).astype(np.uint8)
    samples = np.broadcast_to(ramp[None, :] if width > height else ramp[:, None], (height, width))
    pixels = decode(
        file_of(Image.fromarray(np.ascontiguousarray(samples))), Preprocessing(224), MAX_PIXELS
    ).pixels
    assert pixels.shape == (224, 224, 3)
    assert np.abs(pixels.astype(int) - 127).max() <= 2


def test_long_pictures_past_the_threshold_equal_clip_up_to_rounding() -> None:
    rows = np.linspace(0, 6.28 * 40, 4_000)
    samples = (127 + 100 * np.sin(rows)[:, None] * np.linspace(0.2, 1, 40)).astype(np.uint8)
    image = Image.fromarray(samples).convert("RGB")
    pixels = decode(file_of(image), Preprocessing(64), MAX_PIXELS).pixels
    assert np.abs(pixels.astype(int) - clip_pixels(image, 64)).max() <= 1


@pytest.mark.parametrize("shape", [(40, 1_400), (1_400, 40), (3, 120), (7, 1_000), (1_001, 30)])
@pytest.mark.parametrize("size", [64, 224])
def test_panoramas_equal_clip_up_to_rounding(shape: tuple[int, int], size: int) -> None:
    image = noise(*shape)
    pixels = decode(file_of(image), Preprocessing(size), MAX_PIXELS).pixels
    # In noise, what is rounded across is rounded once more, and amplified, downwards.
    assert np.abs(pixels.astype(int) - clip_pixels(image, size)).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_large_jpegs_are_seen_at_a_smaller_scale_as_if_they_were_whole(
    orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = noise(90, 61).resize((1_801, 1_219), Image.Resampling.BICUBIC)
    content = file_of(image, "JPEG", quality=95, exif=exif)
    whole = decode(content, Preprocessing(32), MAX_PIXELS)
    monkeypatch.setattr(preprocess, "_EXACT_PIXELS", 10**6)
    opened = picture_files.open_picture(content, MAX_PIXELS)
    reduced = preprocess.decode_opened(opened, Preprocessing(32))
    assert math.prod(opened.size) < math.prod(image.size) / 15
    assert (reduced.width, reduced.height) == (whole.width, whole.height)
    apart = np.abs(reduced.pixels.astype(int) - whole.pixels)
    assert (apart > 1).mean() < 0.01
    assert apart.max() <= 3


def test_an_empty_file_says_so() -> None:
    assert reason_of(b"") == picture_files.IMAGE_EMPTY


@pytest.mark.parametrize(
    "content", [b"\x00", b"hello, I am a text", b"%PDF-1.7 ...", b"\x7fELF" + bytes(100)]
)
def test_files_that_are_no_picture_are_unreadable(content: bytes) -> None:
    assert reason_of(content) == picture_files.IMAGE_UNREADABLE


def test_formats_that_are_not_promised_reach_no_decoder() -> None:
    for file_format in ("PPM", "TGA", "EPS", "ICO", "PCX"):
        assert reason_of(file_of(noise(16, 16), file_format)) == picture_files.IMAGE_UNREADABLE


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF"])
def test_a_file_that_is_cut_short_is_refused(file_format: str) -> None:
    content = file_of(noise(64, 64), file_format)
    cut = reason_of(content[: len(content) // 2])
    assert cut in (picture_files.IMAGE_TRUNCATED, picture_files.IMAGE_UNREADABLE)
    if file_format in ("JPEG", "PNG", "GIF"):
        assert cut == picture_files.IMAGE_TRUNCATED


def test_a_picture_past_the_bound_is_refused_before_it_is_decoded() -> None:
    content = file_of(noise(101, 100, 1))
    assert decode(content, Preprocessing(32), max_pixels=10_100).width == 101
    # Only the header is there: the pixels are never asked for.
    assert reason_of(content[:60], max_pixels=10_099) == picture_files.IMAGE_TOO_LARGE


def test_decompression_bombs_are_refused_and_pillows_own_bound_stays() -> None:
    before = Image.MAX_IMAGE_PIXELS
    bomb = file_of(Image.new("1", (20_000, 20_000)))
    assert len(bomb) < 100_000
    assert reason_of(bomb) == picture_files.IMAGE_TOO_LARGE
    assert reason_of(bomb, max_pixels=10**12) == picture_files.IMAGE_TOO_LARGE
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        large = file_of(Image.new("1", (10_000, 10_000)))
        assert reason_of(large, max_pixels=10**12) == picture_files.IMAGE_TOO_LARGE
    assert before == Image.MAX_IMAGE_PIXELS


assert picture_files.readable_formats() == picture_files.FORMATS
SEEDS = [file_of(noise(24, 17), name) for name in picture_files.FORMATS]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    content=st.sampled_from(SEEDS),
    damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
    keep=st.floats(0.2, 1),
)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_give_pixels_or_a_reason_and_nothing_else(content, damage, keep) -> None:
    damaged = bytearray(content)
    for place, value in damage:
        damaged[int(place * len(damaged))] = value
    with contextlib.suppress(InvalidImage):
        decoded = decode(bytes(damaged[: int(len(damaged) * keep)]), Preprocessing(16), MAX_PIXELS)
        assert decoded.pixels.shape == (16, 16, 3)


def test_rotated_gray_of_16_bits_is_turned_and_scaled() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    samples = np.linspace(0, 65535, 40 * 20).reshape(20, 40).astype(np.uint16)
    decoded = decode(
        file_of(Image.fromarray(samples), "PNG", exif=exif), Preprocessing(20), MAX_PIXELS
    )
    assert (decoded.width, decoded.height) == (20, 40)
