"""Which peers there are, what each is made of, and its environment; measuring is run.py's job."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers.backend import Backend

FOLDER = Path("build/peers").absolute()
MODELS = FOLDER / "models"
ROOT = Path(__file__).parents[2]

# clip-anytorch asks for torch and torchvision; who wants its tokenizer alone needs neither.
_TOKENIZER = ("clip-anytorch", "ftfy", "regex", "numpy")
_NO_TORCHVISION = ("torchvision; python_version < '0'",)
_NO_TORCH = (*_NO_TORCHVISION, "torch; python_version < '0'")


@dataclass(frozen=True)
class Environment:
    """A virtual environment under build/peers. `overrides` are packages that it shall not have;
    what constraints.txt pins is pinned by it. `prepare`: a module that is run once, with the
    weights and MODELS as far as `prepare_with` names them."""

    name: str
    packages: tuple[str, ...]
    overrides: tuple[str, ...] = _NO_TORCHVISION
    prepare: tuple[str, ...] = field(default=())

    @property
    def python(self) -> Path:
        """The interpreter; "glimpse" is the project's own environment."""
        return Path(sys.executable) if self.name == "glimpse" else FOLDER / self.name / "bin/python"

    def install(self) -> None:
        """Makes it; what is there already stays. Raises RuntimeError with the installer's words."""
        done = FOLDER / self.name / ".done"
        if self.name == "glimpse" or (
            done.exists() and done.read_text() == "\n".join(self.packages)
        ):
            return
        MODELS.mkdir(parents=True, exist_ok=True)
        overrides = FOLDER / f"{self.name}-overrides.txt"
        overrides.write_text("\n".join(self.overrides) + "\n")
        uv = str(Path(sys.executable).parent / "uv")
        into = str(FOLDER / self.name)
        _call(uv, "venv", "--quiet", "--clear", "--python", sys.executable, into)
        _call(
            *(uv, "pip", "install", "--quiet", "--python", str(self.python)),
            *("-c", str(ROOT / "constraints.txt"), "--override", str(overrides), *self.packages),
        )
        if self.prepare:
            _call(str(self.python), "-m", *self.prepare)
        done.write_text("\n".join(self.packages))


@dataclass(frozen=True)
class Peer:
    """One row of the table. `load` is called in the peer's own environment, with the weights and
    the number of threads."""

    name: str
    what: str
    environment: str
    load: Callable[[Path, int], Backend]


def environments(weights: Path) -> dict[str, Environment]:
    """By name; those later in order use what those before have prepared."""
    return {
        environment.name: environment
        for environment in (
            Environment("glimpse", ()),
            Environment(
                "clip",
                ("torch", *_TOKENIZER, "pillow", "pymilvus", "onnx==1.23.2", "onnxscript==0.7.2"),
                prepare=("benchmarks.peers.torch_clip", str(weights), str(MODELS)),
            ),
            Environment(
                "transformers",
                (
                    "torch",
                    "transformers==5.23.0",
                    "fastapi==0.165.0",
                    "uvicorn==0.54.0",
                    *_TOKENIZER,
                ),
            ),
            Environment("onnxruntime", ("onnxruntime==1.31.1", *_TOKENIZER), _NO_TORCH),
            Environment(
                "openvino",
                ("openvino==2026.4.1", "nncf==3.4.0", *_TOKENIZER),
                _NO_TORCH,
                prepare=("benchmarks.peers.open_vino", str(MODELS)),
            ),
        )
    }


def _tutorial(weights: Path, threads: int) -> Backend:
    from benchmarks.peers.torch_clip import TutorialLoop

    return TutorialLoop(weights, threads)


def _batches(weights: Path, threads: int) -> Backend:
    from benchmarks.peers.torch_clip import Batches

    return Batches(weights, threads)


def _transformers(weights: Path, threads: int) -> Backend:
    from benchmarks.peers.transformers_service import TransformersService

    return TransformersService(threads)


def _onnx_runtime(weights: Path, threads: int) -> Backend:
    from benchmarks.peers.onnx_runtime import OnnxRuntime

    return OnnxRuntime(MODELS, threads)


def _open_vino(precision: str) -> Callable[[Path, int], Backend]:
    def load(weights: Path, threads: int) -> Backend:
        from benchmarks.peers.open_vino import OpenVino

        return OpenVino(MODELS, threads, precision)

    return load


def _glimpse(precision: str) -> Callable[[Path, int], Backend]:
    def load(weights: Path, threads: int) -> Backend:
        from benchmarks.peers.glimpse_encoder import GlimpseEncoder

        return GlimpseEncoder(weights, threads, precision)

    return load


PEERS = {
    peer.name: peer
    for peer in (
        Peer("glimpse-fp32", "glimpse's encoder through gRPC, fp32", "glimpse", _glimpse("fp32")),
        Peer("glimpse-bf16", "glimpse's encoder through gRPC, bf16", "glimpse", _glimpse("bf16")),
        Peer("glimpse-int8", "glimpse's encoder through gRPC, int8", "glimpse", _glimpse("int8")),
        Peer("tutorial", "the tutorial's loop, one at a time, fp32", "clip", _tutorial),
        Peer("clip", "openai/CLIP in batches of 32, fp32", "clip", _batches),
        Peer(
            "transformers",
            "transformers' CLIPModel behind FastAPI, fp32",
            "transformers",
            _transformers,
        ),
        Peer("onnxruntime", "ONNX Runtime in batches of 32, fp32", "onnxruntime", _onnx_runtime),
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
