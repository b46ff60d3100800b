"""The demo: the whole stack, a collection of pictures, questions in words, sheets and figures.

`python -m demo.run` draws 1,000 pictures of the drawn world, starts everything, indexes them, asks
for each of the 100 classes, and holds the answers against the bars. With `--images FOLDER` the same
is done with a person's own pictures, without the figures. Whatever it started is stopped again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from demo import captions, pictures, world
from glimpse.cli.console import CommandError, print_table, say
from glimpse.cli.local.stack import Stack, StackError, StackOptions
from glimpse.cli.ports import Ports
from glimpse.cli.progress import Counter
from glimpse.cli.search import show_hits, write_sheet
from glimpse.cli.walk import find_pictures, image_file
from glimpse.client import Client
from glimpse.errors import FailedPrecondition, GlimpseError
from glimpse.results import ImageFile, Outcome, SearchResult

BARS = {"all": 0.95, "unseen": 0.90, "a white dog": 0.90}
"""What the bundled model has to reach: mean precision at 10 over all classes, over those that
training never saw, and of one of these."""

_COLLECTION = "drawn"
_SHOWN = (
    "a white dog",
    "a red cat",
    "a blue bird",
    "a green car",
    "an orange flower",
    "a purple star",
    "a pink balloon",
    "a yellow tree",
    "a blue mushroom",
    "a black cup",
    "a red boat",
    "a gray fish",
)
_OWN_QUERIES = ("a dog", "a bird", "a person", "a car", "food on a plate", "a tree by the water")


@dataclass(frozen=True)
class Ingested:
    """What became of the pictures; the rate counts unchanged ones too, which are not encoded."""

    images: int
    indexed: int
    unchanged: int
    failed: int
    seconds: float

    @property
    def images_per_s(self) -> float:
        return self.images / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class Answer:
    """One class's query: the share of its pictures among the first 10, and the call's time."""

    text: str
    precision_at_10: float
    ms: float


def main() -> int:
    """Runs the demo; 0 only when everything went well and every bar was reached."""
    parser = argparse.ArgumentParser(prog="python -m demo.run", description=__doc__)
    parser.add_argument("--images", metavar="FOLDER", help="pictures of your own")
    parser.add_argument("--query", metavar="TEXT", help="what to look for in them")
    parser.add_argument("--model", default="demo", metavar="NAME|FILE", help="as in ENCODER_MODEL")
    parser.add_argument(
        "--output", type=Path, default=Path("build/demo"), help="default: build/demo"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return _run(options)
    except (GlimpseError, CommandError, StackError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: stopped before it was done", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    output: Path = options.output.absolute()
    output.mkdir(parents=True, exist_ok=True)
    model = os.path.abspath(options.model) if os.path.isfile(options.model) else options.model
    own = _own_pictures(options.images) if options.images else None
    drawn = pictures.collection(output / "pictures") if own is None else []
    _draw(drawn)
    say(f"Starting Milvus Lite, encoder, indexer and query with the model {options.model!r} ...")
    started_s = time.monotonic()
    stack = Stack(StackOptions(data=output / "data", model=model, ports=Ports.free()))
    with stack, Client(stack.query, stack.indexer, timeout_s=60) as client:
        say(f"Ready after {time.monotonic() - started_s:.1f} s.")
        if own is not None:
            collection = _own_collection(options.images)
            return _show_own(client, collection, own, options.query, output)
        return _show_drawn(client, drawn, options.query, output)


def _draw(drawn: list[pictures.Picture]) -> None:
    count = len(pictures.missing(drawn)) if drawn else 0
    if not count:
        return
    with Counter("drawing", count, "pictures") as counter:
        for _ in pictures.draw_missing(drawn):
            counter.step()
    say(f"Drew {count:,} pictures in {counter.seconds:.0f} s.")


def _show_drawn(
    client: Client, drawn: list[pictures.Picture], query: str | None, output: Path
) -> int:
    ingested = _index(client, _COLLECTION, [_image_file(picture) for picture in drawn])
    shown = (query, *_SHOWN) if query and query not in _SHOWN else _SHOWN
    for text in shown:
        _show(client.search(_COLLECTION, text), text, output)
    answers = [_ask(client, colour, thing) for colour, thing in world.COLLECTION]
    precision = _precision(answers)
    _write_report(output / "report.json", ingested, precision, answers)
    say(f"Sheets and report are in {output}.")
    return 0 if _judge(precision) and not ingested.failed else 1


def _show_own(
    client: Client, collection: str, own: list[ImageFile], query: str | None, output: Path
) -> int:
    ingested = _index(client, collection, own)
    for text in (query,) if query else _OWN_QUERIES:
        _show(client.search(collection, text), text, output)
    say(f"Sheets are in {output}.")
    return 1 if ingested.failed else 0


def _own_collection(folder: str) -> str:
    """A collection for each folder, so that hits are from this one only."""
    return f"own_{hashlib.sha256(os.fsencode(os.path.abspath(folder))).hexdigest()[:12]}"


def _own_pictures(folder: str) -> list[ImageFile]:
    own = [image_file(found) for found in find_pictures([folder])]
    if not own:
        raise CommandError(f"{folder}: there are no pictures in it")
    return own


def _image_file(picture: pictures.Picture) -> ImageFile:
    scene = picture.scene
    metadata = {
        "caption": picture.caption,
        "thing": scene.thing,
        "colour": scene.colour,
        "place": scene.place,
    }
    return ImageFile(path=picture.path, id=picture.identity, metadata=metadata)


def _index(client: Client, collection: str, images: list[ImageFile]) -> Ingested:
    try:
        return _index_once(client, collection, images)
    except FailedPrecondition as error:
        if error.reason != "MODEL_MISMATCH":
            raise
        say(f"{error}. The demo's collection is recreated.")
        client.drop_collection(collection)
        return _index_once(client, collection, images)


def _index_once(client: Client, collection: str, images: list[ImageFile]) -> Ingested:
    with Counter("indexing", len(images), "images") as counter:
        ingest = client.index(collection, images)
        counts = ingest.counts
        for acknowledgement in ingest:
            counter.step(f"{counts[Outcome.FAILED]:,} failed" if counts[Outcome.FAILED] else "")
            if acknowledgement.error is not None:
                say(f"{acknowledgement.image.address}: {acknowledgement.error}")
    ingested = Ingested(
        len(images),
        counts[Outcome.INDEXED],
        counts[Outcome.UNCHANGED],
        counts[Outcome.FAILED],
        counter.seconds,
    )
    say(
        f"{ingested.indexed:,} indexed, {ingested.unchanged:,} unchanged, {ingested.failed:,} "
        f"failed in {ingested.seconds:.1f} s: {ingested.images_per_s:,.0f} images/s."
    )
    return ingested


def _show(result: SearchResult, text: str, output: Path) -> None:
    print(f"\n{text}", flush=True)
    show_hits(result.hits)
    name = "".join(c if c.isalnum() else "-" for c in text.lower())[:80]
    write_sheet(output / f"{name}.png", text, result.hits)


def _ask(client: Client, colour: str, thing: str) -> Answer:
    text = captions.query(colour, thing)
    started_s = time.perf_counter()
    hits = client.search(_COLLECTION, text, limit=pictures.PER_CLASS).hits
    ms = (time.perf_counter() - started_s) * 1000
    right = sum((h.metadata["colour"], h.metadata["thing"]) == (colour, thing) for h in hits)
    return Answer(text, right / pictures.PER_CLASS, round(ms, 2))


def _precision(answers: list[Answer]) -> dict[str, float]:
    unseen = {captions.query(colour, thing) for colour, thing in world.UNSEEN}
    white_dog = next(answer for answer in answers if answer.text == "a white dog")
    return {
        "all": _mean(answer.precision_at_10 for answer in answers),
        "unseen": _mean(a.precision_at_10 for a in answers if a.text in unseen),
        "a white dog": white_dog.precision_at_10,
    }


def _judge(precision: dict[str, float]) -> bool:
    """Prints each figure beside its bar; whether all are reached."""
    rows = [
        (name, f"{value:.3f}", f"{BARS[name]:.2f}", "reached" if value >= BARS[name] else "MISSED")
        for name, value in precision.items()
    ]
    print()
    print_table(("precision at 10", "measured", "bar", ""), rows)
    missed = [name for name, value in precision.items() if value < BARS[name]]
    if missed:
        print(f"demo: precision is below its bar: {', '.join(missed)}", file=sys.stderr)
    return not missed


def _write_report(
    path: Path, ingested: Ingested, precision: dict[str, float], answers: list[Answer]
) -> None:
    report = {
        **asdict(ingested),
        "images_per_s": round(ingested.images_per_s, 2),
        "precision_at_10": {name: precision[name] for name in ("all", "unseen")},
        "queries": [asdict(answer) for answer in answers],
    }
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(report, indent=2) + "\n")
    draft.replace(path)


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return round(sum(numbers) / len(numbers), 4)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
