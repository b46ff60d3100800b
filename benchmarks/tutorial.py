"""The usual tutorial's loop for text-to-image search, plainly written: what ours is held against.

Load CLIP; encode every picture alone and insert its vector with its path; encode a text, padded to
77 tokens; search the first 10. Nothing is batched, and autograd's graph is built and thrown away,
because that is how such a loop is written.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pymilvus import MilvusClient

from services.encoder import openai_clip

_CONTEXT_TOKENS = 77
_BATCH_ROWS = 1_000
_LOOK_S = 0.25


class Tutorial:
    """CLIP by its own classes, and a Milvus collection of {vector, filepath} under COSINE."""

    def __init__(self, weights: Path, milvus_uri: str | None = None, device: str = "cpu") -> None:
        self.model: Any = openai_clip.build_model(torch.load(weights, weights_only=True))
        self.device = device
        if device != "cpu":  # as clip.load does
            self.model = openai_clip.half(self.model).to(device)
        self.tokenizer = openai_clip.tokenizer()
        self.milvus = connect(milvus_uri) if milvus_uri else None
        self.collection = "tutorial"

    def encode_image(self, path: Path) -> list[float]:
        image = preprocess(Image.open(path)).unsqueeze(0).to(self.device)  # [1, 3, 224, 224]
        features = self.model.encode_image(image)
        features /= features.norm(dim=-1, keepdim=True)
        return features.squeeze().tolist()

    def encode_text(self, text: str) -> list[float]:
        features = self.model.encode_text(self.tokenize(text).to(self.device))
        features /= features.norm(dim=-1, keepdim=True)
        return features.squeeze().tolist()

    def create_collection(self) -> None:
        """An empty collection; one of that name is dropped."""
        assert self.milvus is not None
        if self.milvus.has_collection(self.collection):
            self.milvus.drop_collection(self.collection)
        self.milvus.create_collection(
            self.collection,
            dimension=512,
            auto_id=True,
            enable_dynamic_field=True,
            metric_type="COSINE",
        )

    def insert(self, path: Path) -> None:
        """Encodes one picture and inserts it."""
        assert self.milvus is not None
        row = {"vector": self.encode_image(path), "filepath": str(path)}
        self.milvus.insert(self.collection, [row])

    def search(self, text: str) -> list[dict[str, Any]]:
        assert self.milvus is not None
        hits = self.milvus.search(
            self.collection,
            data=[self.encode_text(text)],
            limit=10,
            output_fields=["filepath"],
        )
        return list(hits[0])

    def fill(self, vectors: np.ndarray) -> None:
        """Not the tutorial's: puts many vectors [N, 512] in at once, and has them indexed.

        Flushing, waiting and loading anew is what it would have to do to be searched at its best.
        """
        assert self.milvus is not None
        for start in range(0, len(vectors), _BATCH_ROWS):
            rows = [
                {"vector": vector, "filepath": f"image/{start + index}"}
                for index, vector in enumerate(vectors[start : start + _BATCH_ROWS])
            ]
            self.milvus.insert(self.collection, rows)
        self.milvus.flush(self.collection)
        while self.milvus.describe_index(self.collection, "vector").get("pending_index_rows", 0):
            time.sleep(_LOOK_S)
        self.milvus.release_collection(self.collection)
        self.milvus.load_collection(self.collection)

    def tokenize(self, text: str) -> torch.Tensor:
        """As clip.tokenize: int64 [1, 77], zeros after the end."""
        encoder = self.tokenizer.encoder
        ids = self.tokenizer.encode(text)[: _CONTEXT_TOKENS - 2]
        ids = [encoder["<|startoftext|>"], *ids, encoder["<|endoftext|>"]]
        tokens = torch.zeros(1, _CONTEXT_TOKENS, dtype=torch.long)
        tokens[0, : len(ids)] = torch.tensor(ids)
        return tokens


def connect(uri: str) -> MilvusClient:
    """A client that Milvus Lite does not cut off: it takes pymilvus' frequent pings for abuse."""
    return MilvusClient(uri, grpc_options={"grpc.keepalive_time_ms": 300_000})


def preprocess(image: Image.Image, size: int = 224) -> torch.Tensor:
    """CLIP's own steps without torchvision: float32 [3, size, size]."""
    width, height = image.size
    scale = size / min(width, height)
    width, height = max(size, int(width * scale)), max(size, int(height * scale))
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    image = image.crop((left, top, left + size, top + size)).convert("RGB")
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    return (pixels - mean) / deviation
