"""Models that the Hugging Face hub publishes, by name: which repository, and which files of it.

A repository's `raw` gives small files, and of large ones a pointer with their SHA-256, by which
download.py fetches them. What is in the files, services.encoder.formats says.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import requests

HUB_URL = "https://huggingface.co"

_TIMEOUT_S = (10, 60)
_POINTER = re.compile(rb"version https://git-lfs\S+\noid sha256:([0-9a-f]{64})\n")


@dataclass(frozen=True)
class Repository:
    """A model's files on the hub."""

    path: str  # owner/name
    files: tuple[str, ...]  # all but the weights
    weights: tuple[str, ...]  # the first that is there is taken

    def names(self) -> str:
        """Its files, for people."""
        return ", ".join((*self.files, " or ".join(self.weights)))


class NotThere(requests.HTTPError):
    """The repository has no such file."""


def _open_clip(path: str) -> Repository:
    weights = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    return Repository(path, ("open_clip_config.json",), weights)


def _siglip2(path: str) -> Repository:
    tokenizer = ("tokenizer_config.json", "tokenizer.json")
    files = ("config.json", "preprocessor_config.json", *tokenizer)
    return Repository(path, files, ("model.safetensors",))


# Names as OpenCLIP's list_pretrained gives them, and SigLIP 2's own.
REPOSITORIES = {
    "ViT-B-32/laion2b_s34b_b79k": _open_clip("laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
    "ViT-B-16/laion2b_s34b_b88k": _open_clip("laion/CLIP-ViT-B-16-laion2B-s34B-b88K"),
    "ViT-L-14/laion2b_s32b_b82k": _open_clip("laion/CLIP-ViT-L-14-laion2B-s32B-b82K"),
    "ViT-H-14/laion2b_s32b_b79k": _open_clip("laion/CLIP-ViT-H-14-laion2B-s32B-b79K"),
    "ViT-B-32/datacomp_xl_s13b_b90k": _open_clip("laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K"),
    "ViT-B-16/datacomp_xl_s13b_b90k": _open_clip("laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K"),
    "ViT-L-14/datacomp_xl_s13b_b90k": _open_clip("laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K"),
    **{
        name: _siglip2(f"google/{name}")
        for name in (
            "siglip2-base-patch32-256",
            "siglip2-base-patch16-224",
            "siglip2-base-patch16-256",
            "siglip2-base-patch16-384",
            "siglip2-large-patch16-256",
            "siglip2-large-patch16-384",
            "siglip2-so400m-patch14-384",
            "siglip2-so400m-patch16-256",
            "siglip2-so400m-patch16-384",
        )
    },
}


def pointed_sha256(repository: Repository, file: str, folder: Path, base_url: str) -> str | None:
    """Put a small file into the folder; of a large one return the published SHA-256.

    Raises requests.RequestException and OSError.
    """
    with requests.get(
        f"{base_url}/{repository.path}/raw/main/{file}", timeout=_TIMEOUT_S
    ) as response:
        if response.status_code == requests.codes.not_found:
            raise NotThere(f"there is no {file}")
        response.raise_for_status()
        if pointer := _POINTER.match(response.content):
            return pointer[1].decode()
        part = folder / f"{file}.part"
        part.write_bytes(response.content)
        os.replace(part, folder / file)
        return None


def file_url(repository: Repository, file: str, base_url: str) -> str:
    """Where a large file itself is."""
    return f"{base_url}/{repository.path}/resolve/main/{file}"
