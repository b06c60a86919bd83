"""What a look at one picture costs, of every backbone of the catalog: its figures `n_params`, `gflops`, `activations_mb`.

    python benchmarks/backbone_costs.py             # prints what the catalog should say; no weights are needed

Each architecture is built by its own library without memory for its numbers (torch's `meta` device), and the forward
pass that `embed_images` runs is followed there:

- n_params: numbers of the whole model, the text tower and a classifier too where published files hold them;
- gflops: 10^9 floating-point operations a picture at its input size, a multiply-add being two, by torch's
  `FlopCounterMode` (matrix products, convolutions, attention; norms and activations are not counted);
- activations_mb: 10^6 bytes that live at once besides the weights, a picture, in float32.

`tests/pipeline/backbones/test_catalog_costs.py` holds the catalog against this.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from deponij.pipeline.backbones import describe, load
from deponij.pipeline.backbones.catalog import entries
from deponij.pipeline.training.costs import gflops_of
from deponij.pipeline.training.living import Living


@dataclass(frozen=True)
class Architecture:
    """A model without weights, and what `embed_images` runs of it."""

    model: Any
    embed: Callable[[torch.Tensor], Any]


@dataclass(frozen=True)
class Cost:
    """See the module's text."""

    n_params: int
    gflops: float
    activations_mb: float


# DINOv2's sizes: width, blocks, heads; the giant one has a gated MLP (SwiGLU).
_DINOV2 = {"small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16), "giant": (1536, 40, 24)}


def _dinov2(size: str, *, registers: bool) -> Architecture:
    from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    width, blocks, heads = _DINOV2[size]
    config, model_class = (
        (Dinov2WithRegistersConfig, Dinov2WithRegistersModel) if registers else (Dinov2Config, Dinov2Model)
    )
    # Trained at 518 px, so that the table of positions is larger than the input here needs.
    model = model_class(
        config(
            hidden_size=width,
            num_hidden_layers=blocks,
            num_attention_heads=heads,
            use_swiglu_ffn=size == "giant",
            patch_size=14,
            image_size=518,
        )
    )
    return Architecture(model, lambda pictures: model(pixel_values=pictures))


def _siglip(vocabulary: int) -> Architecture:
    from transformers import SiglipConfig, SiglipModel

    config = SiglipConfig(text_config={"vocab_size": vocabulary})
    model = SiglipModel(config)
    return Architecture(model, lambda pictures: model.get_image_features(pixel_values=pictures))


def _open_clip(name: str) -> Architecture:
    import open_clip

    model = open_clip.create_model(name, load_weights=False, device=torch.get_default_device())
    return Architecture(model, model.encode_image)


def _timm(name: str) -> Architecture:
    import timm

    model = timm.create_model(name, pretrained=False)
    return Architecture(
        model, lambda pictures: model.forward_head(model.forward_features(pictures), pre_logits=True)
    )


ARCHITECTURES: dict[str, Callable[[], Architecture]] = {
    "efficientnet-lite0": lambda: _timm("tf_efficientnet_lite0"),
    "openclip-vit-b-32": lambda: _open_clip("ViT-B-32"),
    "openclip-vit-b-16": lambda: _open_clip("ViT-B-16"),
    "openclip-vit-l-14": lambda: _open_clip("ViT-L-14"),
    "convnext-base-w-320": lambda: _open_clip("convnext_base_w_320"),
    "siglip-base-16": lambda: _siglip(32_000),
    "siglip2-base-16": lambda: _siglip(256_000),
    **{
        f"dinov2-{size}": lambda size=size: _dinov2(size, registers=False)  # type: ignore[misc]
        for size in _DINOV2
    },
    **{
        f"dinov2-reg-{size}": lambda size=size: _dinov2(size, registers=True)  # type: ignore[misc]
        for size in _DINOV2
    },
    "timm-vit-b-16": lambda: _timm("vit_base_patch16_224"),
    "timm-resnet50": lambda: _timm("resnet50"),
}


def built(name: str, device: str = "meta") -> Architecture:
    """The architecture of a catalog entry, with random weights; on `meta` with none. A mini is loaded, and real."""
    if name not in ARCHITECTURES:
        mini = load(name)
        mini.model.to(device)
        return Architecture(mini.model, mini._embed_images)
    with torch.device(device):
        architecture = ARCHITECTURES[name]()
    architecture.model.to(device).eval()
    return architecture


def cost_of(name: str) -> Cost:
    """What a catalog entry costs; see the module's text."""
    architecture, n_pictures = built(name), 4
    height, width = entries()[name].input_px or describe(name).input_px
    pictures = torch.empty(n_pictures, 3, height, width, device="meta")
    with torch.inference_mode(), Living() as living:
        architecture.embed(pictures)
    return Cost(
        n_params=sum(numbers.numel() for numbers in architecture.model.parameters()),
        gflops=gflops_of(architecture.embed, pictures),
        activations_mb=living.most_bytes / n_pictures / 1e6,
    )


def main() -> None:
    """Every entry, or those that are named."""
    for name in sys.argv[1:] or entries():
        cost = cost_of(name)
        print(
            f'{name:20} "n_params": {cost.n_params}, "gflops": {cost.gflops:.3g}, '
            f'"activations_mb": {cost.activations_mb:.3g}'
        )


if __name__ == "__main__":
    main()
