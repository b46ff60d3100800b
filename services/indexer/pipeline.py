"""All streams of images into collections: how many, until when; what each one does is Stream's job.

A stream is a set of images under way. Each goes, on its own and at its own pace, through

    read → look up → decode → encode → write → acknowledge
           (batches)(processes)(batches) (batches)

and what it holds counts against its stream's budget of bytes, so a slow stage, or a caller that
does not read its acknowledgements, ends in the sender having to wait.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

from services.common.threads import SideThread
from services.common.waiting_line import WaitingLine
from services.indexer.metrics import IndexerMetrics
from services.indexer.records import Image, ImageResult, Target
from services.indexer.settings import IndexerSettings
from services.indexer.stages import Peers, PictureDecoder, PictureEncoder
from services.indexer.stream import Stream, stopping
from services.vectors.store import VectorStore


class Pipeline:
    """Runs streams; owned by the event loop that made it.

    Stop order: drain() lets streams end with what they hold and refuses new ones; what they stand
    on is closed by its owner when no stream is left.
    """

    def __init__(
        self,
        store: VectorStore,
        encoder: PictureEncoder,
        decoder: PictureDecoder,
        settings: IndexerSettings,
        metrics: IndexerMetrics,
    ) -> None:
        self.aside = SideThread("indexer-aside")
        """Where metadata are read and compared."""
        self._peers = Peers(store, encoder, decoder, settings, metrics, self.aside)
        self._streams: set[Stream] = set()
        self.line = WaitingLine(settings.max_streams, settings.max_waiting_bytes)
        """The places of streams; those that import rows take some of them, too."""
        self._draining = False
        metrics.watch(self._at_stage, self._held_bytes)

    async def index(
        self,
        target: Target,
        images: AsyncIterator[Image],
        left_s: float | None = None,
        size_bytes: int = 0,
    ) -> AsyncGenerator[ImageResult, None]:
        """Indexes images until they end; yields one acknowledgement each, in any order.

        Of images that share an id, the later one wins. Where as many streams as may be are under
        way, one that has `left_s` seconds and holds `size_bytes` waits. Raises Overloaded where
        that would take too long, or `left_s` is None; Unavailable with the reason RESUME, after the
        acknowledgements of what was taken, when the service stops; and, likewise last, whatever
        `images` raises. Ending the iteration early drops what is under way.
        """
        if self._draining:
            raise stopping()
        async with self.line.place(left_s, size_bytes):
            stream = Stream(self._peers, target)
            self._streams.add(stream)
            self._peers.metrics.streams.inc()
            try:
                async with contextlib.aclosing(stream.run(images)) as acknowledgements:
                    async for acknowledgement in acknowledgements:
                        self._peers.metrics.acknowledged[acknowledgement.outcome].inc()
                        yield acknowledgement
            finally:
                self._streams.discard(stream)
                self._peers.metrics.streams.dec()

    # Asked by the thread that serves the metrics, hence the copies.

    def _at_stage(self, stage: str) -> int:
        return sum(stream.at_stage(stage) for stream in tuple(self._streams))

    def _held_bytes(self) -> int:
        return sum(stream.held_bytes for stream in tuple(self._streams))

    def drain(self) -> None:
        """Refuses new streams and lets the running ones end with what they hold."""
        self._draining = True
        self.line.end_waits(stopping())
        for stream in self._streams:
            stream.stop(stopping())
