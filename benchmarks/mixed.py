"""Single texts and pictures beside a stream of images at the encoder: what each costs the other."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.generator import Generator, Job
from benchmarks.report import Bar, Figure

_TEXTS_PER_S = 10.0
_PICTURES_PER_S = 3.0


class Mixed:
    """The measurements, each of queries alone, images alone, and both; each returns figures."""

    def __init__(
        self, generator: Generator, background: Generator, images: Job, seconds: float
    ) -> None:
        self.details: dict[str, object] = {}
        self._generator = generator
        self._background = background
        self._images = images
        self._seconds = seconds

    def paced(self) -> list[Figure]:
        """Texts at a steady rate, as people's searches come."""
        ratio, share = self._measure("text", Job("encode_texts", 0, per_s=_TEXTS_PER_S))
        rate = f"{_TEXTS_PER_S:g}/s"
        return [
            Figure(
                "text.p99_under_ingest",
                f"p99 of single texts, {rate}, while images stream in ÷ p99 idle",
                ratio,
                Bar("at most", 4),
            ),
            Figure(
                "image.share_beside_texts",
                "images/s meanwhile ÷ images/s alone, before and after",
                share,
                Bar("at least", 0.85),
            ),
        ]

    def ceaseless(self) -> list[Figure]:
        """One text after the other, without a pause."""
        ratio, share = self._measure("ceaseless_text", Job("encode_texts", 0))
        return [
            Figure(
                "text.ceaseless_p99_under_ingest",
                "as p99_under_ingest, for a caller that never pauses",
                ratio,
            ),
            Figure(
                "image.share_beside_ceaseless_texts",
                "as share_beside_texts, with that caller",
                share,
            ),
        ]

    def pictures(self) -> list[Figure]:
        """Single pictures at a steady rate, as people search by them."""
        job = Job("encode_pixels", 0, per_s=_PICTURES_PER_S, interactive=True)
        ratio, share = self._measure("picture", job)
        return [
            Figure(
                "picture.p99_beside_bulk",
                f"p99 of single pictures, {_PICTURES_PER_S:g}/s, beside bulk ÷ p99 idle",
                ratio,
                Bar("at most", 5),
            ),
            Figure(
                "picture.bulk_share",
                "bulk images/s meanwhile ÷ images/s alone, before and after",
                share,
            ),
        ]

    def _measure(self, name: str, queries: Job) -> tuple[float, float]:
        """The queries' p99 ÷ that of the same ones alone; the share that the images keep."""
        queries = replace(queries, seconds=self._seconds)
        idle = self._generator.run(queries).whole()
        before = self._generator.run(self._images).whole().per_s
        self._background.start(replace(self._images, seconds=self._seconds))
        busy = self._generator.run(queries).whole()
        beside = self._background.finish().whole().per_s
        after = self._generator.run(self._images).whole().per_s
        self.details |= {
            f"{name}_idle": idle.summary(),
            f"{name}_under_ingest": busy.summary(),
            f"images_per_s_beside_{name}s": round(beside * self._images.size, 2),
        }
        return busy.ms(0.99) / idle.ms(0.99), 2 * beside / (before + after)
