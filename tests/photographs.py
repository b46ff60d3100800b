"""Real photographs for tests: those that scikit-image and scikit-learn carry, and a folder's."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

FOLDER_VARIABLE = "GLIMPSE_TEST_PHOTOS"

_CARRIED = {
    "skimage": (
        "data/astronaut.png",
        "data/camera.png",  # grayscale
        "data/chelsea.png",
        "data/coffee.png",
        "data/coins.png",  # grayscale
        "data/hubble_deep_field.jpg",
        "data/moon.png",  # grayscale
        "data/motorcycle_left.png",
        "data/retina.jpg",
        "data/rocket.jpg",
    ),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}


def carried() -> list[Path]:
    """The photographs that come with the packages."""
    return [Path(_root(package), name) for package, names in _CARRIED.items() for name in names]


def folder() -> Path | None:
    """A folder of more photographs: GLIMPSE_TEST_PHOTOS, or ../shared/photos, where it is there."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "photos"
    chosen = Path(os.environ.get(FOLDER_VARIABLE) or beside)
    return chosen if chosen.is_dir() else None


def _root(package: str) -> str:
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return os.path.dirname(spec.origin)
