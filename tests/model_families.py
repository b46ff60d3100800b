"""Small untrained models of each family, written by its own library, and what that computes.

Each gives a folder as its library saves one, and the library's own vectors of pixels and texts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, trainers

from services.encoder import openai_clip

Vectors = NDArray[np.float32]

# Several languages and scripts, for a vocabulary like SigLIP 2's.
SENTENCES = [
    "a white dog runs along the beach under a bright sky",
    "ein weißer Hund läuft über den Strand, dahinter Berge",
    "un perro blanco corre por la playa; une photo d'un chat noir",
    "белая собака бежит по пляжу",
    "海滩上奔跑的白狗和黑猫",
    "白い犬が浜辺を走っている",
    "해변을 달리는 하얀 개",
    "كلب أبيض يركض على الشاطئ",
    "समुद्र तट पर दौड़ता सफ़ेद कुत्ता",
    "two children & an old man: 3 bicycles, 50% off! #1 @home (really?)",
]


@dataclass(frozen=True)
class Family:
    """A model in its own library, and the folder that it was saved in."""

    folder: Path
    model: Any
    mean: Sequence[float]
    deviation: Sequence[float]
    size: int
    tokens: Callable[[Sequence[str]], torch.Tensor]  # as the library's processor gives them
    pixels: Callable[[Image.Image], NDArray[np.uint8]]  # likewise, before the normalisation
    _images: Callable[[torch.Tensor], torch.Tensor]
    _texts: Callable[[torch.Tensor], torch.Tensor]

    @torch.inference_mode()
    def encode_pixels(self, pixels: NDArray[np.uint8]) -> Vectors:
        mean, deviation = torch.tensor(self.mean), torch.tensor(self.deviation)
        x = (torch.from_numpy(pixels).float() / 255 - mean) / deviation
        return F.normalize(self._images(x.permute(0, 3, 1, 2)), dim=-1).numpy()

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        return F.normalize(self._texts(self.tokens(texts)), dim=-1).numpy()


def scattered(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Biases and norms begin as zeros and ones, which would hide mistakes with them."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("bias", "in_proj_bias")):
                parameter.normal_(std=0.05)
            elif parameter.dim() == 1 and "norm" in name.replace("ln_", "norm_"):
                parameter.normal_(1.0, 0.1)
    return model.eval()


def hugging_face_clip(
    folder: Path,
    seed: int = 0,
    vision: Mapping[str, Any] | None = None,
    text: Mapping[str, Any] | None = None,
    dimension: int = 48,
) -> Family:
    """Hugging Face's CLIPModel; small, with GELU in one tower and QuickGELU in the other."""
    import transformers as hf

    vocabulary = openai_clip.tokenizer()
    torch.manual_seed(seed)
    vision = (
        vision
        if vision is not None
        else {
            "hidden_size": 96,
            "intermediate_size": 384,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": 64,
            "patch_size": 16,
            "hidden_act": "gelu",
        }
    )
    text = (
        text
        if text is not None
        else {
            "hidden_size": 80,
            "intermediate_size": 200,
            "num_hidden_layers": 3,
            "num_attention_heads": 1,
            "hidden_act": "quick_gelu",
        }
    )
    config = hf.CLIPConfig(
        text_config=dict(text), vision_config=dict(vision), projection_dim=dimension
    )
    size = config.vision_config.image_size
    model = scattered(hf.CLIPModel(config), seed)
    tokenizer = hf.CLIPTokenizer(vocab=dict(vocabulary.encoder), merges=list(vocabulary.bpe_ranks))
    processor = hf.CLIPImageProcessorPil(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}
    )
    for part in (model, tokenizer, processor):
        part.save_pretrained(folder)
    return _of_transformers(folder, model, tokenizer, processor, size, 77)


def siglip(folder: Path, seed: int = 0, **shape: Any) -> Family:
    """Hugging Face's SiglipModel with a vocabulary like Gemma's, as SigLIP 2 has it."""
    import transformers as hf

    torch.manual_seed(seed)
    tokenizer = siglip_tokenizer(hf)
    size, patch_size = shape.get("image_size", 64), shape.get("patch_size", 16)
    tower = {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
    tower |= {"intermediate_size": 200} | shape.get("tower", {})
    config = hf.SiglipConfig(
        text_config=tower | {"vocab_size": shape.get("vocab_size", len(tokenizer))},
        vision_config=tower | {"image_size": size, "patch_size": patch_size},
    )
    model = scattered(hf.SiglipModel(config), seed)
    processor = hf.SiglipImageProcessorPil(
        size={"height": size, "width": size}, resample=2, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    for part in (model, tokenizer, processor):
        part.save_pretrained(folder)
    return _of_transformers(folder, model, tokenizer, processor, size, 64, padding="max_length")


def _of_transformers(
    folder: Path, model: Any, tokenizer: Any, processor: Any, size: int, context: int, **options
) -> Family:
    def tokens(texts: Sequence[str]) -> torch.Tensor:
        how = {"padding": True} | options
        encoded = tokenizer(
            list(texts), truncation=True, max_length=context, return_tensors="pt", **how
        )
        return encoded["input_ids"]

    def pixels(picture: Image.Image) -> NDArray[np.uint8]:
        plain = processor(picture, do_rescale=False, do_normalize=False)["pixel_values"][0]
        return np.asarray(plain).transpose(1, 2, 0)

    def vectors(found: Any) -> torch.Tensor:
        return found if isinstance(found, torch.Tensor) else found.pooler_output

    return Family(
        folder,
        model,
        processor.image_mean,
        processor.image_std,
        size,
        tokens,
        pixels,
        lambda x: vectors(model.get_image_features(pixel_values=x)),
        lambda ids: vectors(model.get_text_features(input_ids=ids)),
    )


def siglip_tokenizer(hf: Any) -> Any:
    """Byte-pair encoding with byte fallback over texts in lower case, padded on the right."""
    bytes_of_fallback = [f"<0x{number:02X}>" for number in range(256)]
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    trained = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    trained.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(" ", "▁")]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=[*special, *bytes_of_fallback], show_progress=False
    )
    trained.train_from_iterator(SENTENCES, trainer)
    content = json.loads(trained.to_str())["model"]
    return hf.models.siglip2.Siglip2Tokenizer(
        vocab=content["vocab"],
        merges=[tuple(pair) for pair in content["merges"]],
        padding_side="right",
        add_bos_token=False,
        add_eos_token=True,
    )


def open_clip_clip(folder: Path, seed: int = 0, quick_gelu: bool = False, **changes: Any) -> Family:
    """OpenCLIP's CLIP, with heads of 80 as ViT-H has, and pixels that are stretched."""
    import open_clip
    from open_clip.push_to_hf_hub import save_for_hf

    model_config = {
        "embed_dim": 48,
        "quick_gelu": quick_gelu,
        "vision_cfg": {
            "image_size": 64,
            "layers": 3,
            "width": 160,
            "head_width": 80,
            "patch_size": 16,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49_408,
            "width": 64,
            "heads": 2,
            "layers": 3,
        },
    }
    for part, values in changes.items():
        if isinstance(values, dict):
            model_config[part] = model_config[part] | values
    size = model_config["vision_cfg"]["image_size"]
    model_config["embed_dim"] = changes.get("embed_dim", model_config["embed_dim"])
    torch.manual_seed(seed)
    custom = changes.get("custom_text", False)
    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    model = scattered(kind(**model_config), seed)
    if custom:
        model_config["custom_text"] = True
    how = {"size": size, "interpolation": "bilinear", "resize_mode": "squash"}
    open_clip.model.set_model_preprocess_cfg(
        model, {"mean": (0.4, 0.5, 0.6), "std": (0.3, 0.2, 0.25), **how}
    )
    save_for_hf(model, _NoTokenizer(), model_config, str(folder), changes.get("safe", True))
    tokenizer = open_clip.SimpleTokenizer(context_length=77)
    steps = open_clip.transform.image_transform_v2(open_clip.transform.PreprocessCfg(**how), False)
    steps = [step for step in steps.transforms if step.__class__.__name__ != "Normalize"]
    transform = _until_tensor(steps)
    return Family(
        folder,
        model,
        (0.4, 0.5, 0.6),
        (0.3, 0.2, 0.25),
        size,
        lambda texts: tokenizer(list(texts)),
        lambda picture: np.asarray(transform(picture)),
        model.encode_image,
        model.encode_text,
    )


class _NoTokenizer:
    """OpenCLIP's own tokenizer is no file."""

    def save_pretrained(self, folder: Path) -> None:
        return


def _until_tensor(steps: Sequence[Any]) -> Callable[[Image.Image], Image.Image]:
    """The steps that give a picture, of those that end in a tensor."""

    def run(picture: Image.Image) -> Image.Image:
        for step in steps:
            found = step(picture)
            if not isinstance(found, Image.Image):
                return picture
            picture = found
        return picture

    return run
