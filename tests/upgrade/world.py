"""Pictures and texts of which each model's vectors are known, and what scores can come of them."""

from __future__ import annotations

import hashlib
import io
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from tests.fakes import FakeEncoder, vector_of

SIZE = 16  # pixels along a side, as many as the models see
DIMENSION = 32  # of both models: nothing but care keeps their vectors apart
MODELS = {"old": "0" * 64, "new": "1" * 64}  # fingerprints
COLLECTION = "images"
TEXTS = tuple(f"text {number}" for number in range(200))
STABLE = 200  # pictures that nobody replaces or deletes


class Model(FakeEncoder):
    """One of MODELS; its vectors of anything have nothing to do with the other's."""

    def __init__(self, name: str) -> None:
        super().__init__(DIMENSION, SIZE, max_images=64)
        self.model_name, self.fingerprint = name, MODELS[name]

    def _embedding(self, content):
        return super()._embedding(self.model_name.encode() + content)


def pixels(number: int, version: int) -> np.ndarray:
    """uint8 [SIZE, SIZE, 3]; no two pictures are the same."""
    return np.random.default_rng((number, version)).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def content(number: int, version: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels(number, version)).save(stream, "BMP")
    return stream.getvalue()


def sha256(number: int, version: int) -> str:
    return hashlib.sha256(content(number, version)).hexdigest()


def path_in(folder: Path, number: int, version: int) -> Path:
    return folder / f"{number:06}-{version}.bmp"


@lru_cache(200_000)
def picture_vector(model: str, number: int, version: int) -> np.ndarray:
    return vector_of(model.encode() + pixels(number, version).tobytes(), DIMENSION)


@lru_cache(10_000)
def text_vector(model: str, text: str) -> np.ndarray:
    return vector_of(model.encode() + text.encode(), DIMENSION)


def is_possible(model: str, query: np.ndarray, hit_id: str, score: float, versions: int) -> bool:
    """Whether the hit can have this score under the model, by any version of its picture."""
    return any(
        abs(float(query @ picture_vector(model, int(hit_id), version)) - score) < 1e-4
        for version in range(versions)
    )
