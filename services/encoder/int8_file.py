"""Keeps a model in int8, and how it agrees with fp32, in a file for the next start.

It is read one tensor at a time, each with its checksum, and holds numbers only. A file that is
damaged, or that another version made, is as good as none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from services.encoder import (
    blocks,
    drawn_pictures,
    inputs,
    int8_check,
    int8_linear,
    linear,
    towers,
    weights,
)
from services.encoder.checkpoint import Checkpoint
from services.encoder.hardware import cpu_has_bf16, cpu_has_int8
from services.encoder.int8_check import Agreement

_MODULES = (blocks, drawn_pictures, inputs, int8_check, int8_linear, linear, towers, weights)
_ABOUT = "about"  # an array of bytes: JSON

log = logging.getLogger(__name__)


class FileUnusable(Exception):
    """The message names the file and says why."""


@dataclass(frozen=True)
class Kept:
    """What an earlier start found out, and the tensors of its model, as Weights takes them.

    There are none where int8 was refused. Reading one raises FileUnusable where it is damaged.
    """

    agreement: Agreement
    tensors: Mapping[str, Tensor]


class Int8File:
    """The file of one model, for processors like this one."""

    def __init__(self, folder: Path, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        model = f"{checkpoint.fingerprint} int8 {cpu_has_int8()} bf16 {cpu_has_bf16()}"
        name = hashlib.sha256(model.encode()).hexdigest()[:16]
        self.path = folder.expanduser() / f"int8-{name}.npz"

    def read(self) -> Kept | None:
        """What it holds, None where there is none. Raises FileUnusable."""
        if not self.path.exists():
            return None
        with _named(self.path):
            arrays = np.load(self.path, allow_pickle=False)
            about = json.loads(arrays[_ABOUT].tobytes())
            if about["version"] != _version():
                raise ValueError("another version made it")
            names = [name for name in arrays.files if name != _ABOUT]
            return Kept(Agreement(**about["agreement"]), _Tensors(self.path, arrays, names))

    def write(self, agreement: Agreement, made: Mapping[str, Tensor]) -> None:
        """Keep the outcome and the tensors that were made for int8, if there are any; then also
        those of the checkpoint whose place they do not take. Where it cannot, it says so."""
        about = json.dumps({"version": _version(), "agreement": asdict(agreement)})
        arrays: dict[str, NDArray[np.generic]] = {_ABOUT: np.frombuffer(about.encode(), np.uint8)}
        for name, tensor in {**self._checkpoint.weights, **made}.items() if made else ():
            if f"{name}.rounded" not in made:
                arrays[name] = _array(tensor)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Who has to wait has nothing to do: another encoder writes the same.
            with FileLock(self.path.with_suffix(".lock"), timeout=0):
                self._put_in_place(arrays)
        except OSError as error:
            reason = error.strerror or error
            log.info("int8 is made anew at the next start, %s: %s", self.path, reason)

    def _put_in_place(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        part = self.path.with_suffix(".part")
        try:
            with part.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
            os.replace(part, self.path)
        finally:
            part.unlink(missing_ok=True)


class _Tensors(Mapping[str, Tensor]):
    """A file's tensors, of which nothing stays here. Their CRC is checked as they are read."""

    def __init__(
        self, path: Path, arrays: Mapping[str, NDArray[np.generic]], names: list[str]
    ) -> None:
        self._path, self._arrays, self._names = path, arrays, names

    def __getitem__(self, name: str) -> Tensor:
        with _named(self._path):
            return torch.from_numpy(self._arrays[name])

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # broken files make the readers raise almost every exception
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FileUnusable(f"{path} cannot be used: {reason}") from error


def _version() -> str:
    """Another one wherever a model may be made or judged in another way."""
    digest = hashlib.sha256(torch.__version__.encode())
    for module in _MODULES:
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()


def _array(tensor: Tensor) -> NDArray[np.generic]:
    exact = tensor.float() if tensor.dtype == torch.bfloat16 else tensor  # numpy has no bf16
    return exact.detach().numpy()
