"""Makers of tiny models with random weights, in the real on-disk formats of their families.

Each maker takes an empty folder and a seed, writes what a published folder of that family holds, and
returns the folder. Weights are scaled up from the libraries' near-zero initialisation where that would
make all embeddings alike.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

TEXTS = (
    "a plastic bottle on the beach in the sand",
    "crushed drink can, cigarette and a bottle cap",
    "one paper cup beside two glass jars near the road",
    "the blue plastic bag was left in the green grass",
)


def open_clip_vit(folder: Path, seed: int = 0, **vision: Any) -> Path:
    """An open_clip folder: ViT of 2 blocks, 32 px, patch 8, embedding 24."""
    config = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
        | vision,
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    }
    return _open_clip(folder, config, seed)


def open_clip_convnext(folder: Path, seed: int = 0) -> Path:
    """An open_clip folder with a timm ConvNeXt tower: 64 px, embedding 24, four stages."""
    config = {
        "embed_dim": 24,
        "vision_cfg": {
            "timm_model_name": "test_convnext",
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": 64,
        },
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    }
    return _open_clip(folder, config, seed)


def siglip(folder: Path, seed: int = 0) -> Path:
    """A transformers SigLIP folder with a sentencepiece tokenizer: 2 blocks, 32 px, patch 8, width 32."""
    from transformers import SiglipTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "spiece.model"
    vocabulary.write_bytes(_sentencepiece())
    SiglipTokenizer(vocab_file=str(vocabulary)).save_pretrained(folder)
    return _siglip(folder, 200, seed, pad_token_id=1)


def siglip2(folder: Path, seed: int = 0) -> Path:
    """A fixed-resolution SigLIP 2 folder: SigLIP's model type with a Gemma tokenizer."""
    from transformers import GemmaTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    letters = sorted({letter for text in TEXTS for letter in text if letter != " "} | {"▁"})
    vocabulary = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3}
    vocabulary |= {letter: index for index, letter in enumerate(letters, start=4)}
    pairs = [
        (left, right) for left, right in (("t", "h"), ("i", "n"), ("o", "t")) if {left, right} <= set(letters)
    ]
    vocabulary |= {left + right: len(vocabulary) + index for index, (left, right) in enumerate(pairs)}
    GemmaTokenizer(vocab=vocabulary, merges=pairs).save_pretrained(folder)
    return _siglip(folder, len(vocabulary), seed, pad_token_id=0)


def dinov2(folder: Path, seed: int = 0) -> Path:
    """A transformers DINOv2 folder: 3 blocks, patch 14, input 28 px, width 32."""
    from transformers import Dinov2Config, Dinov2Model

    return written_dinov2(folder, Dinov2Model, Dinov2Config(**_DINOV2), seed)


def dinov2_registers(folder: Path, seed: int = 0) -> Path:
    """The same with 4 register tokens."""
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    config = Dinov2WithRegistersConfig(**_DINOV2, num_register_tokens=4)
    return written_dinov2(folder, Dinov2WithRegistersModel, config, seed)


def timm_vit(folder: Path, seed: int = 0) -> Path:
    """A folder in timm's hub format: test_vit, 160 px, with its classifier."""
    return _timm(folder, "test_vit", seed)


def timm_resnet(folder: Path, seed: int = 0) -> Path:
    """A folder in timm's hub format: test_resnet, 160 px, with its classifier."""
    return _timm(folder, "test_resnet", seed)


def timm_distilled(folder: Path, seed: int = 0) -> Path:
    """A folder in timm's hub format: a small distilled DeiT (class token and distillation token), 32 px."""
    size = {"img_size": 32, "patch_size": 16, "embed_dim": 32, "depth": 2, "num_heads": 2}
    return _timm(folder, "deit_tiny_distilled_patch16_224", seed, **size)


MAKERS: dict[str, Callable[..., Path]] = {
    "open_clip_vit": open_clip_vit,
    "open_clip_convnext": open_clip_convnext,
    "siglip": siglip,
    "siglip2": siglip2,
    "dinov2": dinov2,
    "dinov2_registers": dinov2_registers,
    "timm_vit": timm_vit,
    "timm_resnet": timm_resnet,
}

_TIMM_RECORD = (
    "input_size",
    "fixed_input_size",
    "interpolation",
    "crop_pct",
    "crop_mode",
    "mean",
    "std",
    "first_conv",
    "classifier",
)

_DINOV2 = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "mlp_ratio": 2,
    "patch_size": 14,
    "image_size": 42,
}


def _stir(model: Any, seed: int) -> None:
    """Random weights of a size at which every layer has a say."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.parameters():
            noise = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(noise * (tensor[0].numel() ** -0.5 if tensor.ndim > 1 else 0.2) + (tensor.ndim == 1))


def _open_clip(folder: Path, config: dict[str, Any], seed: int) -> Path:
    import open_clip

    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "model_cfg": config,
        "preprocess_cfg": {
            "mean": [0.48145466, 0.4578275, 0.40821073],
            "std": [0.26862954, 0.26130258, 0.27577711],
        },
    }
    (folder / "open_clip_config.json").write_text(json.dumps(record))
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    _stir(model, seed)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def _siglip(folder: Path, vocab_size: int, seed: int, pad_token_id: int) -> Path:
    from transformers import SiglipConfig, SiglipModel

    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = tower | {"vocab_size": vocab_size, "max_position_embeddings": 64, "pad_token_id": pad_token_id}
    text |= {"bos_token_id": None, "eos_token_id": None}
    model = SiglipModel(
        SiglipConfig(vision_config=tower | {"image_size": 32, "patch_size": 8}, text_config=text)
    )
    _stir(model, seed)
    model.save_pretrained(folder)
    half = [0.5, 0.5, 0.5]
    _write_processor(
        folder,
        image_processor_type="SiglipImageProcessor",
        size={"height": 32, "width": 32},
        image_mean=half,
        image_std=half,
        resample=3,
        rescale_factor=0.00392156862745098,
    )
    return folder


def written_dinov2(folder: Path, model_class: Any, config: Any, seed: int = 0) -> Path:
    """A model of this configuration, whose pictures are 28 px."""
    folder.mkdir(parents=True, exist_ok=True)
    model = model_class(config)
    _stir(model, seed)
    model.save_pretrained(folder)
    _write_processor(
        folder,
        image_processor_type="BitImageProcessor",
        size={"shortest_edge": 32},
        crop_size={"height": 28, "width": 28},
        do_center_crop=True,
        do_convert_rgb=True,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
        resample=3,
        rescale_factor=0.00392156862745098,
    )
    return folder


def _timm(folder: Path, architecture: str, seed: int, **arguments: int) -> Path:
    import timm

    folder.mkdir(parents=True, exist_ok=True)
    model = timm.create_model(architecture, pretrained=False, num_classes=5, **arguments)
    _stir(model, seed)
    published = {name: model.pretrained_cfg.get(name) for name in _TIMM_RECORD}
    record = {
        "architecture": architecture,
        "num_classes": 5,
        "num_features": model.num_features,
        "model_args": arguments,
        "pretrained_cfg": published | {"num_classes": 5},
    }
    if "img_size" in arguments:
        record["pretrained_cfg"] |= {"input_size": (3, arguments["img_size"], arguments["img_size"])}
    (folder / "config.json").write_text(json.dumps(record))
    save_file(model.state_dict(), folder / "model.safetensors")
    return folder


def _write_processor(folder: Path, **record: Any) -> None:
    steps = {"do_resize": True, "do_rescale": True, "do_normalize": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(steps | record))


def _sentencepiece() -> bytes:
    """A tiny SigLIP-like vocabulary: pad 0, eos 1, unk 2, no bos, as T5's."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 5),
        model_writer=model,
        vocab_size=120,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return model.getvalue()


class Shelf:
    """Folders of tiny models, each made once, when it is first asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __getitem__(self, name: str) -> Path:
        folder = self.root / name
        if not folder.exists():
            MAKERS[name](folder)
        return folder


def pictures() -> dict[str, Image.Image]:
    """Pictures that preprocessing gets wrong easily: smooth colours and noise, of awkward sizes and modes."""
    sizes = {
        "portrait": (61, 97),
        "landscape": (120, 45),
        "one_pixel_wide": (1, 300),
        "one_pixel_high": (83, 1),
        "odd": (33, 35),
        "smaller_than_input": (9, 7),
        "large": (401, 263),
    }
    made = {name: _picture(*size, seed) for seed, (name, size) in enumerate(sizes.items())}
    alpha = Image.fromarray(np.random.default_rng(9).integers(0, 256, (77, 58), dtype=np.uint8))
    made["rgba"] = _picture(58, 77, 8)
    made["rgba"].putalpha(alpha)
    made["grey"] = _picture(58, 77, 10).convert("L")
    return made


def _picture(width: int, height: int, seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 200, height)[:, None, None] * np.ones((1, width, 3)) * rng.uniform(0.3, 1, 3)
    noise = rng.integers(0, 56, (height, width, 3))
    return Image.fromarray((ramp + noise).astype(np.uint8))
