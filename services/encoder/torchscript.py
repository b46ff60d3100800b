"""Reads the tensors out of a TorchScript archive without running it.

openai/CLIP publishes its weights as TorchScript programs. `torch.jit.load` compiles such a program,
and hands control to any `__setstate__` in it, before a single weight can be looked at. The weights
need none of that: an archive is a zip file, whose `data.pkl` lists the modules and whose `data/N`
hold the numbers. The list is read by an unpickler that knows three kinds of things (a module, a
tensor, a list) and refuses every other name, so a file from a stranger can only be wrong.
"""

from __future__ import annotations

import mmap
import pickle
import struct
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}

# Of what comes before each file in a zip archive, and in it the lengths of what comes in between.
_HEADER_BYTES, _LENGTHS_AT = 30, 26


@dataclass(frozen=True)
class Archive:
    """What an archive holds, less its code."""

    tensors: dict[str, torch.Tensor]  # by dotted name, in the stored dtype, on the CPU
    classes: frozenset[str]  # names of its modules' classes, such as "QuickGELU"


def is_torchscript(path: Path) -> bool:
    """Whether the file is a TorchScript archive; a plain `torch.save` archive holds no code."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read(path: Path) -> Archive:
    """Return every tensor of the archive, and the names of its classes.

    Raises pickle.UnpicklingError for an archive that asks for anything but modules and tensors, and
    KeyError, ValueError, RuntimeError or zipfile.BadZipFile for a damaged one.
    """
    with _Files(path) as archive:
        root = next(n for n in archive.namelist() if n.endswith("/data.pkl"))[: -len("data.pkl")]
        with archive.open(f"{root}data.pkl") as listing:
            unpickler = _Unpickler(listing, archive, root)
            module = unpickler.load()
    tensors: dict[str, torch.Tensor] = {}
    _collect(module, (), tensors)
    return Archive(tensors, frozenset(unpickler.classes))


class _Files(zipfile.ZipFile):
    """An archive's files; those that are not compressed can be had where they are in it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with path.open("rb") as file:
            # As long as a tensor lies in it, it stays. What is written to it stays in this process.
            self._mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))

    def content(self, name: str) -> memoryview | bytearray:
        info = self.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED:
            return bytearray(self.read(info))
        # The length of what lies between a file's header and its content stands in the header.
        name_bytes, extra_bytes = struct.unpack_from(
            "<HH", self._mapped, info.header_offset + _LENGTHS_AT
        )
        start = info.header_offset + _HEADER_BYTES + name_bytes + extra_bytes
        return self._mapped[start : start + info.file_size]


class _Module:
    """A module of the archive: its attributes, and none of its code."""

    attributes: dict[str, Any]

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        self.attributes = attributes


class _Unpickler(pickle.Unpickler):
    def __init__(self, listing: Any, archive: _Files, root: str) -> None:
        super().__init__(listing)
        self._archive = archive
        self._root = root
        self._storages: dict[str, torch.Tensor] = {}
        self.classes: set[str] = set()

    def find_class(self, module_name: str, global_name: str) -> Any:
        if module_name == "__torch__" or module_name.startswith("__torch__."):
            self.classes.add(global_name)
            return _Module
        if (module_name, global_name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module_name, global_name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module_name == "torch" and global_name in _DTYPES:
            return _DTYPES[global_name]
        if module_name == "torch.jit._pickle":
            return _untagged
        raise pickle.UnpicklingError(
            f"refers to {module_name}.{global_name}, which is not a weight"
        )

    def persistent_load(self, pid: Any) -> torch.Tensor:
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not str(key).isdigit():
            raise pickle.UnpicklingError("refers to something that is not a storage")
        if key not in self._storages:
            numbers = self._archive.content(f"{self._root}data/{key}")
            if len(numbers) != count * dtype.itemsize:
                raise ValueError(f"storage {key} has {len(numbers)} bytes, not {count} numbers")
            empty = torch.empty(0, dtype=dtype)
            self._storages[key] = torch.frombuffer(numbers, dtype=dtype) if count else empty
        return self._storages[key]


def _tensor(storage: torch.Tensor, offset: int, size: Any, stride: Any, *_: Any) -> torch.Tensor:
    return storage.as_strided(tuple(size), tuple(stride), offset)  # checks its bounds


def _untagged(value: Any, *_: Any) -> Any:
    """What torch.jit._pickle does for typed lists, less the type."""
    return value


def _collect(value: Any, names: tuple[str, ...], tensors: dict[str, torch.Tensor]) -> None:
    if isinstance(value, torch.Tensor):
        tensors[".".join(names)] = value
    elif isinstance(value, _Module):
        for name, attribute in value.attributes.items():
            _collect(attribute, (*names, str(name)), tensors)
