"""A file or folder of weights becomes one model: shape, tensors, vocabulary and a fingerprint.

It computes nothing. What files say in their family's own way, services.encoder.formats reads; that
they are read and never executed is services.encoder.weights_file's job.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import torch

from glimpse.files import sha256_of
from glimpse.pictures.preprocessing import Preprocessing
from services.encoder.download import OPENAI_SHA256, WeightsFile
from services.encoder.formats import hugging_face, open_clip, openai
from services.encoder.formats.described import Described
from services.encoder.shape import Activation, Shape, check_fit
from services.encoder.vocabulary import OPENAI_VOCABULARY, Vocabulary
from services.encoder.weights_file import read_file

_ONE_OF_MANY = "model.safetensors.index.json"


class CheckpointError(Exception):
    """The weights cannot be used as a model; the message names the file and says why."""


@dataclass(frozen=True)
class Checkpoint:
    """A model's weights, in the dtype in which they are stored, on the CPU, and what it is."""

    name: str
    weights: Mapping[str, torch.Tensor]  # named as openai/CLIP does
    shape: Shape
    sha256: str  # of the file with the weights
    vocabulary: Vocabulary = OPENAI_VOCABULARY
    prompt_template: str = ""

    @property
    def preprocessing(self) -> Preprocessing:
        """How the model sees pictures."""
        return self.shape.preprocessing

    @property
    def fingerprint(self) -> str:
        """Tells two models apart whose vectors must not be compared.

        Of openai/CLIP's own models, the weights and how pictures become pixels say all.
        """
        weights = f"{self.sha256}/{self.preprocessing.fingerprint}"
        if self.shape.family == "openai/CLIP":
            return weights
        return f"{weights}/{self.shape.digest(self.vocabulary)}"


def read(
    weights: WeightsFile, activation: Activation | None = None, digest: Future[str] | None = None
) -> Checkpoint:
    """Read a bare file in openai/CLIP's format, or a folder of Hugging Face or OpenCLIP.

    `activation` is what the operator says of a file that does not say it itself; `digest`, its
    SHA-256 where somebody computes that. Raises CheckpointError for what is not there, is damaged,
    is not the expected file, is no such model, or does not say which one it is.
    """
    path = weights.path
    try:
        return _folder(weights, activation) if path.is_dir() else _file(weights, activation, digest)
    except OSError as error:
        raise CheckpointError(f"{error.filename or path}: {error.strerror or error}") from error
    except KeyError as error:
        raise CheckpointError(
            f"{path}: not a model in openai/CLIP's format: {error} is missing"
        ) from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused, because it is no file of weights or contains more than weights; use "
            "a saved `model.state_dict()`, an archive published by openai/CLIP, or safetensors"
        ) from error
    except CheckpointError:
        raise
    except Exception as error:  # broken files make the readers raise almost every exception
        raise CheckpointError(f"{path}: {_one_line(error)}") from error


def _file(
    weights: WeightsFile, activation: Activation | None, digest: Future[str] | None
) -> Checkpoint:
    path = weights.path
    sha256 = digest.result() if digest else sha256_of(path)
    if weights.sha256 not in (None, sha256):
        raise CheckpointError(
            f"{path}: SHA-256 is {sha256}, expected {weights.sha256} for {weights.name}; "
            "remove the file and restart"
        )
    found = read_file(path)
    if any(tensor.startswith(("vision_model.", "text_model.")) for tensor in found.tensors):
        raise ValueError("a file of a Hugging Face model; name its folder, with config.json")
    said = "quick_gelu" if sha256 in OPENAI_SHA256 else weights.activation or found.activation
    activation = _agreed(said, activation)
    if activation is None:
        raise ValueError(
            "nothing in the file says which activation the model was trained with; set "
            "ENCODER_ACTIVATION to quick_gelu (openai/CLIP's own) or gelu (most of OpenCLIP's), or "
            "name the folder that OpenCLIP or Hugging Face publish it in"
        )
    return _checked(weights.name, openai.describe(found.tensors, activation), sha256)


def _folder(weights: WeightsFile, activation: Activation | None) -> Checkpoint:
    path = weights.path
    if (path / open_clip.CONFIG).exists():
        describe, candidates = open_clip.describe, open_clip.WEIGHTS
    elif (path / "config.json").exists():
        describe, candidates = hugging_face.describe, hugging_face.WEIGHTS
    else:
        raise ValueError(f"the folder has neither {open_clip.CONFIG} nor config.json")
    file = next((path / each for each in candidates if (path / each).exists()), None)
    if file is None:
        many = "; weights in several files are not read" * (path / _ONE_OF_MANY).exists()
        raise ValueError(f"the folder has no {_one_of(candidates)}{many}")
    described = describe(path, read_file(file).tensors)
    _agreed(described.shape.text.activation, activation)
    return _checked(weights.name, described, sha256_of(file))


def _checked(name: str, described: Described, sha256: str) -> Checkpoint:
    check_fit(described.shape, described.weights)
    return Checkpoint(
        name,
        described.weights,
        described.shape,
        sha256,
        described.vocabulary,
        described.prompt_template,
    )


def _agreed(said: Activation | None, given: Activation | None) -> Activation | None:
    if said and given and said != given:
        raise ValueError(f"the model has {said}, and ENCODER_ACTIVATION is {given}")
    return said or given


def _one_of(names: Sequence[str]) -> str:
    return " or ".join((", ".join(names[:-1]), names[-1]))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
