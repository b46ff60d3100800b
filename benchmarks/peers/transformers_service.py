"""The peer that is Hugging Face transformers' CLIPModel behind FastAPI, and its caller.

`python -m benchmarks.peers.transformers_service PORT THREADS` serves; one model, whatever threads
the web server has, as such services are commonly written.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Sequence
from http.client import HTTPConnection
from typing import Any

import fastapi  # pyright: ignore[reportMissingImports]
import numpy as np

from benchmarks.peers.backend import (
    DEVIATION,
    IMAGE_SIZE,
    MEAN,
    Backend,
    Callers,
    Pixels,
    tokenize,
)
from benchmarks.peers.server import ServerProcess, free_port


class TransformersService(Backend):
    """Its caller: as many calls at once as glimpse gets."""

    texts_per_call = 1
    callers = Callers(images=4, texts=32)

    def __init__(self, threads: int) -> None:
        self._port = free_port()
        command = ["-m", "benchmarks.peers.transformers_service", str(self._port), str(threads)]
        self._server = ServerProcess(command, {}, self._is_ready)
        self.server_pid, self.start_s = self._server.pid, self._server.start_s
        self._local = threading.local()

    def encode_images(self, pixels: Pixels) -> Any:
        return self._post("/images", pixels.tobytes())

    def encode_texts(self, texts: Sequence[str]) -> Any:
        return self._post("/texts", json.dumps({"texts": list(texts)}).encode())

    def close(self) -> None:
        self._server.stop()

    def _post(self, path: str, body: bytes) -> Any:
        """Over a connection of this thread's own."""
        if not hasattr(self._local, "connection"):
            self._local.connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
        self._local.connection.request(
            "POST", path, body, {"Content-Type": "application/octet-stream"}
        )
        answer = self._local.connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {content[:200]!r}")
        return json.loads(content)

    def _is_ready(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


def _serve(port: int, threads: int) -> None:
    import torch
    import transformers  # pyright: ignore[reportMissingImports]
    import uvicorn  # pyright: ignore[reportMissingImports]
    from starlette.concurrency import (  # pyright: ignore[reportMissingImports]
        run_in_threadpool,
    )

    torch.set_num_threads(threads)
    # Its defaults are ViT-B/32's shape.
    model: Any = transformers.CLIPModel(transformers.CLIPConfig()).eval()
    mean, deviation = (torch.tensor(values)[:, None, None] * 255 for values in (MEAN, DEVIATION))
    application = fastapi.FastAPI()

    @application.get("/ready")
    def ready() -> str:
        return "ready"

    @application.post("/images")
    async def images(request: fastapi.Request) -> list[list[float]]:
        return await run_in_threadpool(encode_images, await request.body())

    @application.post("/texts")
    async def texts(request: fastapi.Request) -> list[list[float]]:
        return await run_in_threadpool(encode_texts, (await request.json())["texts"])

    def encode_images(content: bytes) -> list[list[float]]:
        pixels = np.frombuffer(content, dtype=np.uint8).reshape(-1, IMAGE_SIZE, IMAGE_SIZE, 3)
        values = (torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float() - mean) / deviation
        with torch.inference_mode():
            return _unit(model.get_image_features(pixel_values=values))

    def encode_texts(texts: list[str]) -> list[list[float]]:
        tokens = torch.from_numpy(tokenize(texts))
        # As its processor pads: to the longest of the call, the rest masked.
        lengths = tokens.argmax(dim=1) + 1
        tokens = tokens[:, : int(lengths.max())]
        mask = (torch.arange(tokens.shape[1])[None, :] < lengths[:, None]).long()
        with torch.inference_mode():
            return _unit(model.get_text_features(input_ids=tokens, attention_mask=mask))

    uvicorn.run(application, host="127.0.0.1", port=port, log_level="warning")


def _unit(features: Any) -> list[list[float]]:
    # Newer versions answer with the towers' whole output.
    vectors = getattr(features, "pooler_output", features)
    return (vectors / vectors.norm(dim=-1, keepdim=True)).tolist()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]))
