"""The minis' architectures, as their families' own libraries build them from their own configuration.

Vision towers of about a million weights at 64 px, patch 8 (64 tokens), and a ConvNeXt of a third of that whose four stages
have strides 4 to 32. Not here: training (`train`).
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

IMAGE_PX, PATCH_PX, WIDTH = 64, 8, 128
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIGLIP_TOKENS = 24

OPENCLIP_CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": WIDTH,
        "vision_cfg": {
            "image_size": IMAGE_PX, "patch_size": PATCH_PX, "layers": 5, "width": WIDTH, "head_width": 32,
        },
        # CLIP's vocabulary is large, so the text tower is narrow.
        "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    },
    "preprocess_cfg": {
        "mean": list(CLIP_MEAN), "std": list(CLIP_STD), "interpolation": "bicubic", "resize_mode": "shortest",
    },
}  # fmt: skip

CONVNEXT_CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": WIDTH,
        "vision_cfg": {
            "timm_model_name": "test_convnext2", "timm_model_pretrained": False, "timm_pool": "", "timm_proj": "linear",
            "image_size": IMAGE_PX,
        },
        "text_cfg": OPENCLIP_CONFIG["model_cfg"]["text_cfg"],
    },
    "preprocess_cfg": OPENCLIP_CONFIG["preprocess_cfg"],
}  # fmt: skip


def convnext_mini() -> nn.Module:
    """A freshly initialised `open_clip.CLIP` with a ConvNeXt."""
    from open_clip.model import CLIP

    model = CLIP(**CONVNEXT_CONFIG["model_cfg"])
    # The library's factor of 1e-6 before each sum is made for deep networks; it would leave these blocks silent.
    for name, weight in model.visual.named_parameters():
        if name.endswith(".gamma"):
            nn.init.constant_(weight, 0.5)
    mini: nn.Module = model
    return mini


def openclip_mini() -> nn.Module:
    """A freshly initialised `open_clip.CLIP`."""
    from open_clip.model import CLIP

    model = CLIP(**OPENCLIP_CONFIG["model_cfg"])
    with torch.no_grad():
        model.visual.positional_embedding[1:] = sincos_positions()
    mini: nn.Module = model
    return mini


def siglip_mini(vocabulary: int) -> nn.Module:
    """A freshly initialised `SiglipModel` for a tokenizer of `vocabulary` pieces (pad 0, end 1)."""
    from transformers import SiglipConfig, SiglipModel

    text = {
        "vocab_size": vocabulary, "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": SIGLIP_TOKENS, "projection_size": WIDTH,
        "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2,
    }  # fmt: skip
    vision = {
        "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 4, "num_attention_heads": 4,
        "image_size": IMAGE_PX, "patch_size": PATCH_PX,
    }  # fmt: skip
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
    with torch.no_grad():
        model.vision_model.embeddings.position_embedding.weight.copy_(sincos_positions())
    return model


def dinov2_mini() -> nn.Module:
    """A freshly initialised `Dinov2Model`."""
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=WIDTH, num_hidden_layers=5, num_attention_heads=4, mlp_ratio=4,
        image_size=IMAGE_PX, patch_size=PATCH_PX, layerscale_value=1.0, drop_path_rate=0.0,
    )  # fmt: skip
    model = Dinov2Model(config)
    # The library's spread of 0.02 fits wide models; at this width it leaves the blocks nearly silent.
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
    with torch.no_grad():
        model.embeddings.position_embeddings[:, 1:] = sincos_positions()
    return model


def sincos_positions(scale: float = 0.4) -> Tensor:
    """Sines and cosines of each patch's row and column (Chen et al. 2021, MoCo v3) -> [64, WIDTH].

    Small ViTs learn much faster from these than from random positions.
    """
    side = IMAGE_PX // PATCH_PX
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    pace = 100.0 ** -(torch.arange(WIDTH // 4) / (WIDTH // 4))
    angles = [axis.reshape(-1, 1) * pace for axis in (row, column)]
    return scale * torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write a configuration file."""
    path.write_text(json.dumps(record, indent=2) + "\n")
