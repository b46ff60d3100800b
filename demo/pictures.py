"""The demo's collection as picture files, drawn once by a pool of processes; indexes nothing."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

from demo import animals_and_plants, captions, figure, places, shapes, things, world

PER_CLASS = 10
_SEED = 7
_QUALITY = 95
_MARK = "drawn.json"
_DRAWING = (animals_and_plants, figure, places, shapes, things, world)


@dataclass(frozen=True)
class Picture:
    """One picture of the collection: where its file is, what is on it, one way to say it."""

    path: Path
    scene: world.Scene
    caption: str

    @property
    def identity(self) -> str:
        """Its id in the collection, the same for ever, whatever it looks like."""
        return f"drawn/{self.path.stem}"


def collection(folder: Path) -> list[Picture]:
    """The 1,000 pictures, class by class, 10 for each; nothing is drawn yet."""
    rng = Random(f"demo {_SEED}")
    pictures = []
    for number, scene in enumerate(world.scenes(world.COLLECTION, PER_CLASS, _SEED)):
        name = f"{scene.colour}-{scene.thing}-{number % PER_CLASS}.jpg"
        words = captions.caption(rng, scene.colour, scene.thing, scene.place)
        pictures.append(Picture(folder / name, scene, words))
    return pictures


def draw_missing(pictures: list[Picture]) -> Iterator[Picture]:
    """Draws the files that are not there, on all cores; yields each when it is written."""
    processes = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=processes) as pool:
        yield from pool.map(_write, missing(pictures), chunksize=8)


def missing(pictures: list[Picture]) -> list[Picture]:
    """Those whose files are not there; all, when the code that draws them has changed."""
    folder = pictures[0].path.parent
    mark, drawing = folder / _MARK, _drawing_sha256()
    try:
        fresh = json.loads(mark.read_text()) == drawing
    except (OSError, ValueError):
        fresh = False
    if not fresh:
        folder.mkdir(parents=True, exist_ok=True)
        for picture in pictures:
            picture.path.unlink(missing_ok=True)
        mark.write_text(json.dumps(drawing))
    return [picture for picture in pictures if not picture.path.exists()]


def _drawing_sha256() -> str:
    digest = hashlib.sha256(f"{_SEED} {_QUALITY}".encode())
    for module in _DRAWING:
        assert module.__file__ is not None
        digest.update(Path(module.__file__).read_bytes())
    return digest.hexdigest()


def _write(picture: Picture) -> Picture:
    draft = picture.path.with_suffix(".part")
    world.draw(picture.scene).save(draft, "JPEG", quality=_QUALITY)
    draft.replace(picture.path)  # a file that is there is whole
    return picture
