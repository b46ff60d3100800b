"""Which peers there are, what each is made of, and its environment; measuring is run.py's job."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.backend import Backend

FOLDER = Path("build/peers").absolute()
ROOT = Path(__file__).parents[2]

# clip-anytorch asks for torch and torchvision; who wants its tokenizer alone needs neither.
_TOKENIZER = ("clip-anytorch", "ftfy", "regex", "numpy")
_NO_TORCHVISION = ("torchvision; python_version < '0'",)
_NO_TORCH = (*_NO_TORCHVISION, "torch; python_version < '0'")


@dataclass(frozen=True)
class Environment:
    """A virtual environment under build/peers. `overrides` are packages that it shall not have;
    what constraints.txt pins is pinned by it. `prepare`: a module, and arguments with which it is
    run once each."""

    name: str
    packages: tuple[str, ...]
    overrides: tuple[str, ...] = _NO_TORCHVISION
    prepare: str = ""
    prepared: tuple[tuple[str, ...], ...] = ()

    @property
    def python(self) -> Path:
        """The interpreter; "glimpse" is the project's own environment."""
        return Path(sys.executable) if self.name == "glimpse" else FOLDER / self.name / "bin/python"

    def install(self) -> None:
        """Makes it; what is there already stays. Raises RuntimeError with the installer's words."""
        done, made_of = FOLDER / self.name / ".done", f"{self.packages} {self.prepared}"
        if self.name == "glimpse" or (done.exists() and done.read_text() == made_of):
            return
        FOLDER.mkdir(parents=True, exist_ok=True)
        overrides = FOLDER / f"{self.name}-overrides.txt"
        overrides.write_text("\n".join(self.overrides) + "\n")
        uv = str(Path(sys.executable).parent / "uv")
        into = str(FOLDER / self.name)
        _call(uv, "venv", "--quiet", "--clear", "--python", sys.executable, into)
        _call(
            *(uv, "pip", "install", "--quiet", "--python", str(self.python)),
            *("-c", str(ROOT / "constraints.txt"), "--override", str(overrides), *self.packages),
        )
        for arguments in self.prepared:
            _call(str(self.python), "-m", self.prepare, *arguments)
        done.write_text(made_of)


@dataclass(frozen=True)
class Model:
    """The same weights as a file, and as what peers make of them."""

    weights: Path
    folder: Path
    image_size: int


BUNDLED = Model(ROOT / "demo/model/clip-drawn-world.pt", FOLDER / "bundled", 64)
"""Whose vectors mean something."""


def random_model(weights: Path) -> Model:
    """That of the rates: random weights in the shape of ViT-B/32."""
    return Model(weights, FOLDER / "random", 224)


@dataclass(frozen=True)
class Peer:
    """One row of the table. `load` is called in the peer's own environment, with the model and the
    number of threads; `takes_any`: any model."""

    name: str
    what: str
    environment: str
    load: Callable[[Model, int], Backend]
    takes_any: bool = True

    @property
    def needs_bf16(self) -> bool:
        return self.name.endswith("-bf16")


def environments(models: Sequence[Model]) -> dict[str, Environment]:
    """By name; those later in order use what those before have prepared."""
    exported = tuple((str(model.weights), str(model.folder)) for model in models)
    folders = tuple((folder,) for _, folder in exported)
    return {
        environment.name: environment
        for environment in (
            Environment("glimpse", ()),
            Environment(
                "clip",
                ("torch", *_TOKENIZER, "pillow", "pymilvus", "onnx==1.23.2", "onnxscript==0.7.2"),
                prepare="benchmarks.peers.torch_clip",
                prepared=exported,
            ),
            Environment(
                "transformers",
                (
                    "torch",
                    "transformers",
                    "fastapi==0.165.0",
                    "uvicorn==0.54.0",
                    *_TOKENIZER,
                ),
            ),
            Environment(
                "onnxruntime",
                ("onnxruntime==1.31.1", "onnx==1.23.2", *_TOKENIZER),
                _NO_TORCH,
                prepare="benchmarks.peers.onnx_runtime",
                prepared=folders,
            ),
            Environment(
                "openvino",
                ("openvino==2026.4.1", "nncf==3.4.0", *_TOKENIZER),
                _NO_TORCH,
                prepare="benchmarks.peers.open_vino",
                prepared=folders,
            ),
        )
    }


def _tutorial(model: Model, threads: int) -> Backend:
    from benchmarks.peers.torch_clip import TutorialLoop

    return TutorialLoop(model.weights, threads)


def _batches(model: Model, threads: int) -> Backend:
    from benchmarks.peers.torch_clip import Batches

    return Batches(model.weights, threads)


def _compiled(precision: str) -> Callable[[Model, int], Backend]:
    def load(model: Model, threads: int) -> Backend:
        from benchmarks.peers.torch_clip import Compiled

        return Compiled(model.weights, threads, precision)

    return load


def _transformers(model: Model, threads: int) -> Backend:
    from benchmarks.peers.transformers_service import TransformersService

    return TransformersService(threads)


def _onnx_runtime(precision: str) -> Callable[[Model, int], Backend]:
    def load(model: Model, threads: int) -> Backend:
        from benchmarks.peers.onnx_runtime import OnnxRuntime

        return OnnxRuntime(model.folder, threads, precision)

    return load


def _open_vino(precision: str) -> Callable[[Model, int], Backend]:
    def load(model: Model, threads: int) -> Backend:
        from benchmarks.peers.open_vino import OpenVino

        return OpenVino(model.folder, threads, precision)

    return load


def _glimpse(precision: str) -> Callable[[Model, int], Backend]:
    def load(model: Model, threads: int) -> Backend:
        from benchmarks.peers.glimpse_encoder import GlimpseEncoder

        return GlimpseEncoder(model.weights, threads, precision)

    return load


PEERS = {
    peer.name: peer
    for peer in (
        Peer("glimpse-fp32", "glimpse's encoder through gRPC, fp32", "glimpse", _glimpse("fp32")),
        Peer("glimpse-bf16", "glimpse's encoder through gRPC, bf16", "glimpse", _glimpse("bf16")),
        Peer("glimpse-int8", "glimpse's encoder through gRPC, int8", "glimpse", _glimpse("int8")),
        # Those two see pictures of 224 pixels, whatever the model does.
        Peer("tutorial", "the tutorial's loop, one at a time, fp32", "clip", _tutorial, False),
        Peer("clip", "openai/CLIP in batches of 32, fp32", "clip", _batches),
        Peer(
            "transformers",
            "transformers' CLIPModel behind FastAPI, fp32",
            "transformers",
            _transformers,
            takes_any=False,
        ),
        Peer("compile-fp32", "torch.compile of openai/CLIP, fp32", "clip", _compiled("fp32")),
        Peer("compile-bf16", "torch.compile of openai/CLIP, bf16", "clip", _compiled("bf16")),
        Peer("onnxruntime-fp32", "ONNX Runtime, fp32", "onnxruntime", _onnx_runtime("fp32")),
        Peer("onnxruntime-int8", "ONNX Runtime, int8", "onnxruntime", _onnx_runtime("int8")),
        Peer("openvino-fp32", "OpenVINO in batches of 32, fp32", "openvino", _open_vino("fp32")),
        Peer("openvino-bf16", "OpenVINO in batches of 32, bf16", "openvino", _open_vino("bf16")),
        Peer("openvino-int8", "OpenVINO, int8 by NNCF", "openvino", _open_vino("int8")),
    )
}


def _call(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise RuntimeError(said[-1] if said else f"{command[0]} exited with {done.returncode}")
