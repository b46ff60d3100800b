"""`make bench-int8`: whether int8 keeps its word on photographs, which its check never sees.

Weights that round well and weights with outliers are made int8 as the encoder does it, and as it
would be without regard to what comes into a layer, which ruins some. Each is held against fp32 on
photographs, and its check's verdict against that. Activations of 7 bits are computed everywhere, of
8 bits where the processor can add them up.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from benchmarks import machine, stacks
from benchmarks.photographs import Photographs, photographs
from benchmarks.report import Bar, Figure, Report
from benchmarks.weights import small_with_outliers, vit_b_32_with_outliers
from glimpse.cli.console import say
from services.encoder import checkpoint, hardware
from services.encoder.checkpoint import Checkpoint
from services.encoder.download import BUNDLED, WeightsFile
from services.encoder.hardware import PrecisionUnusable, cpu_has_int8
from services.encoder.int8_check import Agreement, Reference, in_int8, neighbours_kept, reference
from services.encoder.model import ClipModel
from services.encoder.precisions import check_agreement
from services.encoder.settings import EncoderSettings
from tests.photographs import folder as known_folder

_BATCH = 32
_MIN_NEIGHBOURS = 0.98
_RUINED = "visual.transformer.resblocks.2.ln_1.weight"
_FLAGS = {7: "", 8: "avx512_vnni"}  # of processors whose activations have so many bits

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """One model in int8."""

    weights: str
    how: str
    bits: int
    kept: float  # share of fp32's ten nearest photographs
    least_cosine: float  # of a photograph's vector to that of fp32
    agreement: Agreement  # as the check at the start finds it
    check_s: float

    @property
    def starts(self) -> bool:
        """Whether an encoder serves it."""
        try:
            check_agreement(self.agreement, EncoderSettings.model_validate({}))
        except PrecisionUnusable:
            return False
        return True

    @property
    def is_missed(self) -> bool:
        """Whether it should not."""
        return self.starts and self.kept < _MIN_NEIGHBOURS


def bundled(factor: float) -> Checkpoint:
    """The bundled model, one channel of what comes into a layer times the factor."""
    read = checkpoint.read(BUNDLED)
    weights = {**read.weights, _RUINED: read.weights[_RUINED].clone()}
    weights[_RUINED][0] *= factor
    return replace(read, weights=weights)


def random(path: Path) -> Checkpoint:
    """Random weights in a file."""
    return checkpoint.read(WeightsFile(path.stem, path), "quick_gelu")


WEIGHTS: dict[str, Callable[[], Checkpoint]] = {
    "bundled": lambda: bundled(1),
    "bundled, a channel × 30": lambda: bundled(30),
    "bundled, a channel × 3,000": lambda: bundled(3000),
    "small, outliers": lambda: random(small_with_outliers(stacks.OUTPUT)),
    "ViT-B/32, outliers": lambda: random(vit_b_32_with_outliers(stacks.OUTPUT)),
}


class Measured:
    """One model in fp32, and what it finds among the photographs."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self._name, self._read = name, WEIGHTS[name]()
        self._shown: Photographs = photographs(
            options.images, self._read.shape.image_size, options.photographs
        )
        self._vectors = self._encode(ClipModel(self._read, "cpu", "fp32"))
        started_s = time.perf_counter()
        self._exact = reference(self._read)
        self._reference_s = time.perf_counter() - started_s

    def rows(self) -> Iterator[Row]:
        """In int8 as the encoder makes it, and with no regard to what comes into a layer."""
        plain = self._exact._replace(inputs={})
        for bits in (7, 8) if cpu_has_int8() else (7,):
            for how, exact in (("as served", self._exact), ("rounded as it is", plain)):
                with _processor(_FLAGS[bits]):
                    yield self._row(how, bits, exact)

    def _row(self, how: str, bits: int, exact: Reference) -> Row:
        started_s = time.perf_counter()
        model, agreement = in_int8(self._read, exact=exact)
        check_s = self._reference_s + time.perf_counter() - started_s
        vectors = self._encode(model)
        of_same_file = self._shown.files[:, None] == self._shown.files
        kept = neighbours_kept(
            vectors @ vectors.T, self._vectors @ self._vectors.T, left_out=of_same_file
        )
        cosine = float((vectors * self._vectors).sum(1).min())
        return Row(self._name, how, bits, kept, cosine, agreement, check_s)

    def _encode(self, model: ClipModel) -> Vectors:
        pixels = self._shown.pixels
        parts = [pixels[first : first + _BATCH] for first in range(0, len(pixels), _BATCH)]
        return np.concatenate([model.encode_pixels(list(part)) for part in parts])


@contextmanager
def _processor(flags: str) -> Iterator[None]:
    """The encoder takes this machine's processor for one with these flags."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "cpuinfo")
        file.write_text(f"flags : avx2 {flags}\n", encoding="ascii")
        with patch.object(hardware, "_CPUINFO", file):
            yield


def figures(rows: list[Row]) -> list[Figure]:
    """What the rows come to."""
    started = [row.kept for row in rows if row.starts]
    return [
        Figure(
            "int8_neighbours_photos",
            "least share of fp32's 10 nearest photographs that int8 keeps where it starts",
            min(started, default=None),
            Bar("at least", _MIN_NEIGHBOURS),
            reason="" if started else "int8 started nowhere",
        ),
        Figure(
            "int8_missed",
            f"models in int8 that start and keep less than {_MIN_NEIGHBOURS}",
            sum(row.is_missed for row in rows),
            Bar("at most", 0),
        ),
        Figure(
            "int8_check_s",
            "longest that making and checking int8 took, fp32 included",
            max(row.check_s for row in rows),
        ),
    ]


def table(rows: list[Row]) -> str:
    """Markdown: what each keeps, and what its check says."""
    lines = [
        "| weights | in int8 | bits | kept | least cosine | check: kept | least cosine | starts |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        verdict = f"{'yes' if row.starts else 'no'}{', wrongly' * row.is_missed}"
        lines.append(
            f"| {row.weights} | {row.how} | {row.bits} | {row.kept:.3f} | {row.least_cosine:.4f} "
            f"| {row.agreement.neighbours:.3f} | {row.agreement.least_cosine:.4f} | {verdict} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Writes build/bench/int8.json, prints both tables."""
    options = _options()
    report = Report("int8", "make bench-int8", machine.describe())
    rows: list[Row] = []
    for name in options.only or WEIGHTS:
        say(f"{name} ...")
        rows += Measured(name, options).rows()
    report.figures = figures(rows)
    report.details = {
        "table": table(rows),
        "rows": [asdict(row) | {"starts": row.starts} for row in rows],
        "options": {key: str(value) for key, value in sorted(vars(options).items())},
    }
    report.write(stacks.OUTPUT / "int8.json")
    print(table(rows), report.table(), sep="\n")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.int8", description=__doc__)
    parser.add_argument("--images", type=Path, default=known_folder(), help="photographs, JPEGs")
    parser.add_argument("--photographs", type=int, default=1000, help="how many")
    parser.add_argument("--only", nargs="*", choices=WEIGHTS, help="some of the models")
    options = parser.parse_args()
    if options.images is None:
        parser.error("--images names a folder of photographs")
    return options


if __name__ == "__main__":
    raise SystemExit(main())
