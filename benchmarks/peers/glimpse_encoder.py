"""glimpse's own encoder among its peers: the service as a process, called through gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.backend import Backend, Callers, Pixels
from benchmarks.peers.catalogue import FOLDER
from benchmarks.peers.server import ServerProcess, free_port
from glimpse.cli.probes import is_serving
from glimpse.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from glimpse.transport.channel import open_channel
from services.common import embeddings
from services.encoder.hardware import RequestedPrecision

_CACHE = FOLDER / "encoder-cache"
_MAX_MESSAGE_BYTES = 64 * 2**20


class GlimpseEncoder(Backend):
    """Images by the batch, as the indexer sends them; texts one by one, as query does."""

    texts_per_call = 1
    callers = Callers(images=4, texts=32)

    def __init__(self, weights: Path, threads: int, precision: str) -> None:
        if precision not in get_args(RequestedPrecision):
            raise RuntimeError(f"the encoder has no {precision}")
        address = f"127.0.0.1:{free_port()}"
        environment = {
            "ENCODER_LISTEN": address,
            "ENCODER_METRICS_LISTEN": "127.0.0.1:0",
            "ENCODER_MODEL": str(weights),
            "ENCODER_ACTIVATION": "quick_gelu",
            "ENCODER_PRECISION": precision,
            "ENCODER_THREADS": str(threads),
            "ENCODER_LOG_LEVEL": "WARNING",
            "ENCODER_MIN_INT8_NEIGHBOURS": "0",  # what random weights see means nothing
            "ENCODER_CACHE_DIR": str(_CACHE),
        }
        command = ["-m", "services.encoder"]
        if precision == "int8":  # the first start makes what a peer's environment is prepared with
            ServerProcess(command, environment, lambda: is_serving(address)).stop()
        self._server = ServerProcess(command, environment, lambda: is_serving(address))
        self.server_pid, self.start_s = self._server.pid, self._server.start_s
        self._channel = open_channel(address, _MAX_MESSAGE_BYTES)
        self._encoder = encoder_pb2_grpc.EncoderStub(self._channel)

    def encode_images(self, pixels: Pixels) -> Any:
        images = [encoder_pb2.Image(pixels=image.tobytes()) for image in pixels]
        return self._encoder.EncodeImages(encoder_pb2.EncodeImagesRequest(images=images))

    def encode_texts(self, texts: Sequence[str]) -> Any:
        return self._encoder.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=texts))

    def vectors(self, answer: Any) -> NDArray[np.float32]:
        return np.stack([embeddings.from_message(each.embedding) for each in answer.results])

    def close(self) -> None:
        self._channel.close()
        self._server.stop()
