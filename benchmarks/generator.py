"""The load generator: a process of its own that calls the services over gRPC, job by job.

`python -m benchmarks.generator` reads one job per line, as JSON, and answers each with a line.
The parent's side is Generator. Which jobs make a figure is not decided here.
"""

from __future__ import annotations

import asyncio
import gc
import io
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import grpc
import numpy as np
from PIL import Image
from pymilvus import AsyncMilvusClient
from pymilvus.exceptions import MilvusException

from benchmarks.load import Answers, Ask, closed_loop, open_loop
from benchmarks.texts import new_texts, repeated_texts
from benchmarks.vectors import clustered
from glimpse.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from glimpse.query.v1 import query_pb2, query_pb2_grpc
from glimpse.transport.channel import open_aio_channel
from services.vectors.milvus import schema
from tests import photographs

_WARM_UP_CALLS = 8
_IMAGE_BYTES = 224 * 224 * 3
# Of searches by vector: others of the same clusters as those stored, and what a search gives.
_QUERIES, _DIMENSION, _QUERY_SEED = 256, 512, 99
_LIMIT = 10
_FIELDS = ("uri", "width", "height", "format", "metadata")
_PHOTOGRAPH = (640, 640)  # pixels, as pictures on the web have
_MAX_DRESSED = 64


@dataclass(frozen=True)
class Job:
    """One load. `per_s` 0: a closed loop of `callers`; otherwise an open loop at that rate.

    what: search, batch_search or encode_texts (of `size` texts in a call), or encode_pixels or
    encode_files (of `size` images, in bulk unless they are `interactive`); vectors: searches by
    vector, through query; bare_vectors: the same, from pymilvus. `popular` 0: every text is new;
    otherwise so many texts, by Zipf's law. collection "": the generator's. `filter`, `offset` and
    `parameters`, those of Milvus, are of vectors only.
    """

    what: str
    seconds: float
    callers: int = 1
    per_s: float = 0.0
    size: int = 1
    interactive: bool = False
    popular: int = 0
    deadline_s: float = 30.0
    max_calls: int = 0  # of a closed loop of one caller; 0: as many as fit
    collection: str = ""
    filter: str = ""
    offset: int = 0
    parameters: dict[str, int] | None = None  # bare ones'; None: as ours


class Generator:
    """The process, from the side of who gives it work; one job at a time."""

    def __init__(
        self,
        encoder: str,
        query: str = "",
        collection: str = "",
        seed: int = 0,
        milvus_uri: str = "",
    ) -> None:
        arguments = [encoder, query, collection, str(seed), milvus_uri]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.generator", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def run(self, job: Job) -> Answers:
        """Raises RuntimeError where the process has died."""
        self.start(job)
        return self.finish()

    def start(self, job: Job) -> None:
        """Begins a job; the next call is finish()."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(job)) + "\n")
        self._process.stdin.flush()

    def finish(self) -> Answers:
        """Waits for the job's end. Raises RuntimeError where the process has died."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load generator has died; see its output above")
        return Answers(**json.loads(line))


class _Calls:
    """The calls that jobs are made of."""

    def __init__(
        self, encoder: str, query: str, collection: str, seed: int, milvus_uri: str
    ) -> None:
        self._milvus = AsyncMilvusClient(milvus_uri) if milvus_uri else None
        self._vectors = itertools.cycle(clustered(_QUERIES, _DIMENSION, seed=_QUERY_SEED))
        self._encoder = encoder_pb2_grpc.EncoderStub(open_aio_channel(encoder, retry=False))
        self._query = query_pb2_grpc.QueryStub(
            open_aio_channel(query or "127.0.0.1:1", retry=False)
        )
        self._collection = collection
        self._seed = seed
        self._new = new_texts(seed)
        self._images: dict[tuple[str, int, bool], encoder_pb2.EncodeImagesRequest] = {}

    async def run(self, job: Job) -> Answers:
        ask = self.ask(job)
        if job.max_calls:
            return await self._counted(ask, job)
        if job.per_s:
            return await open_loop(ask, job.per_s, job.seconds, patience_s=2 * job.deadline_s)
        return await closed_loop(ask, job.callers, job.seconds)

    def ask(self, job: Job) -> Ask:
        if job.what == "bare_vectors":
            return self._ask_bare(job)
        texts = self._new
        if job.popular:
            popular = list(itertools.islice(new_texts(self._seed + 1_000_000), job.popular))
            texts = repeated_texts(popular, exponent=1.0, seed=self._seed)
        stubs: dict[str, Any] = {
            "search": self._query.Search,
            "vectors": self._query.Search,
            "batch_search": self._query.BatchSearch,
            "encode_texts": self._encoder.EncodeTexts,
            "encode_pixels": self._encoder.EncodeImages,
            "encode_files": self._encoder.EncodeImages,
        }

        async def ask() -> str:
            request = self._request(job, texts)
            try:
                await stubs[job.what](request, timeout=job.deadline_s)
            except grpc.aio.AioRpcError as error:
                return error.code().name
            return "OK"

        return ask

    def _request(self, job: Job, texts: Iterator[str]) -> Any:
        if job.what in ("encode_pixels", "encode_files"):
            # Made once: copying them takes the encoder's processor.
            key = job.what, job.size, job.interactive
            if key not in self._images:
                self._images[key] = self._image_request(*key)
            return self._images[key]
        collection = job.collection or self._collection
        if job.what == "vectors":
            return query_pb2.SearchRequest(
                collection=collection,
                vector=query_pb2.Vector(values=next(self._vectors).tolist()),
                options=query_pb2.SearchOptions(filter=job.filter, offset=job.offset),
            )
        some = list(itertools.islice(texts, job.size))
        if job.what == "encode_texts":
            return encoder_pb2.EncodeTextsRequest(texts=some)
        if job.what == "search":
            return query_pb2.SearchRequest(collection=collection, text=some[0])
        queries = [query_pb2.BatchQuery(text=text) for text in some]
        return query_pb2.BatchSearchRequest(collection=collection, queries=queries)

    def _ask_bare(self, job: Job) -> Ask:
        """What our store asks for, straight from pymilvus."""
        milvus = self._milvus
        assert milvus is not None, "was given no Milvus"
        window = job.offset + _LIMIT + 1
        parameters = schema.search_parameters(window)
        if job.parameters is not None:
            parameters = {"params": job.parameters}

        async def ask() -> str:
            try:
                await milvus.search(
                    job.collection or self._collection,
                    [next(self._vectors)],
                    filter=job.filter,
                    limit=window,
                    output_fields=["id", *_FIELDS] if window <= _MAX_DRESSED else ["id"],
                    anns_field="vector",
                    search_params=parameters,
                    consistency_level="Bounded",
                    timeout=job.deadline_s,
                )
            except MilvusException as error:
                return f"MILVUS_{error.code}"
            return "OK"

        return ask

    async def _counted(self, ask: Ask, job: Job) -> Answers:
        answers, started_s = Answers(0.0), time.perf_counter()
        for _ in range(job.max_calls):
            call_started_s = time.perf_counter()
            answers.add(await ask(), (time.perf_counter() - call_started_s) * 1000)
        answers.seconds = time.perf_counter() - started_s
        return answers

    def _image_request(
        self, what: str, count: int, interactive: bool
    ) -> encoder_pb2.EncodeImagesRequest:
        if what == "encode_files":
            files = itertools.islice(itertools.cycle(_photographs()), count)
            images = [encoder_pb2.Image(file=file) for file in files]
        else:
            generator = np.random.default_rng(self._seed)
            pixels = generator.integers(0, 256, (count, _IMAGE_BYTES), dtype=np.uint8)
            images = [encoder_pb2.Image(pixels=image.tobytes()) for image in pixels]
        priority = encoder_pb2.PRIORITY_BULK
        if interactive:
            priority = encoder_pb2.PRIORITY_INTERACTIVE
        return encoder_pb2.EncodeImagesRequest(images=images, priority=priority)


def _photographs() -> Iterator[bytes]:
    """JPEG files of a dozen photographs, none larger than _PHOTOGRAPH."""
    for path in photographs.carried():
        image = Image.open(path).convert("RGB")
        image.thumbnail(_PHOTOGRAPH)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=90)
        yield buffer.getvalue()


async def _serve(encoder: str, query: str, collection: str, seed: int, milvus_uri: str) -> None:
    calls = _Calls(encoder, query, collection, seed, milvus_uri)
    gc.freeze()  # a full collection would be measured as the services' latency
    warm: set[tuple[str, int]] = set()
    while line := await asyncio.to_thread(sys.stdin.readline):
        job = Job(**json.loads(line))
        if (job.what, job.size) not in warm:
            warm.add((job.what, job.size))
            ask = calls.ask(replace(job, seconds=0))
            await asyncio.gather(*(ask() for _ in range(_WARM_UP_CALLS if job.size == 1 else 1)))
        print(json.dumps(asdict(await calls.run(job))), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]))
