"""OpenAI's own CLIP network and tokenizer, from the installed `clip` package; loads no weights.

Importing `clip` as a package also imports torchvision and pkg_resources, which a service does not
need and often cannot have. Its two useful modules stand alone, so they are executed on their own,
and `sys.modules` never sees a half-initialised `clip`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# TorchScript archives of OpenAI carry these beside the weights; they are facts, not parameters.
NOT_WEIGHTS = frozenset({"input_resolution", "context_length", "vocab_size"})


def build_model(state_dict: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """Return `clip.model.CLIP` holding these weights, in float32, on the CPU, in eval mode.

    Every hyper-parameter follows from the shapes in `state_dict`, which is left unchanged.
    Raises KeyError or RuntimeError where the keys or shapes are not those of a CLIP model, and
    ImportError where the `clip` package is not installed.
    """
    weights = {key: value for key, value in state_dict.items() if key not in NOT_WEIGHTS}
    model: torch.nn.Module = _module("model").build_model(dict(weights))
    model = model.float()
    # build_model rounds the weights to half precision on the way: put the exact ones in.
    model.load_state_dict(weights)
    return model.eval()


def half(model: torch.nn.Module) -> torch.nn.Module:
    """The model in CLIP's own mix of fp16 and fp32, in which `clip.load` leaves it on a GPU."""
    _module("model").convert_weights(model)
    return model


def new_model(**hyper_parameters: Any) -> Any:
    """Return an untrained `clip.model.CLIP(**hyper_parameters)` in float32, for training."""
    return _module("model").CLIP(**hyper_parameters)


@cache
def tokenizer() -> Any:
    """Return CLIP's byte-pair tokenizer (`encode`, `decode`, `encoder`), built once per process.

    It needs neither torch nor torchvision. Raises ImportError where `clip` is not installed.
    """
    return _module("simple_tokenizer").SimpleTokenizer()


def _module(name: str) -> ModuleType:
    """Execute `clip/<name>.py` alone and return it. Raises ImportError if it is not there."""
    package = find_spec("clip")
    if package is None or not package.submodule_search_locations:
        raise ImportError("the package clip-anytorch (module clip) is not installed")
    path = Path(package.submodule_search_locations[0]) / f"{name}.py"
    spec = spec_from_file_location(f"openai_clip_{name}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ImportError(f"the installed clip package has no {path.name}")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
