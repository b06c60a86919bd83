"""Convolutional towers compute channels-last on a CPU, and what comes out is what it was, up to rounding.

Expected values: the same model with its weights and input in the plain format.
"""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import tiny_models
import torch

from deponij.pipeline.backbones import Backbone, load
from deponij.pipeline.backbones.memory_format import is_convolutional

TOLERANCE = 1e-5

Loaded = Callable[[str], Backbone]


def plain(backbone: Backbone) -> Backbone:
    """A copy that computes in the plain format."""
    other = type(backbone)(backbone.description, deepcopy(backbone.model), backbone.tokenizer)
    other.model.to(memory_format=torch.contiguous_format)
    return other


def picture_batch(backbone: Backbone, n: int) -> torch.Tensor:
    return torch.randn(n, 3, *backbone.description.input_px, generator=torch.Generator().manual_seed(1))


def is_channels_last(backbone: Backbone) -> bool:
    weights = [one for one in backbone.vision.parameters() if one.ndim == 4 and one.shape[2] > 1]
    return all(one.is_contiguous(memory_format=torch.channels_last) for one in weights) and bool(weights)


def assert_equal_to_plain(backbone: Backbone, n: int) -> None:
    batch, other = picture_batch(backbone, n), plain(backbone)
    assert is_channels_last(backbone) and not is_channels_last(other)
    embedded = backbone.embed_images(batch)
    assert embedded.is_contiguous() and embedded.std() > 1e-3
    assert float((embedded - other.embed_images(batch)).abs().max()) <= TOLERANCE
    for ours, theirs in zip(backbone.dense(batch), other.dense(batch), strict=True):
        assert ours.values.is_contiguous()
        scale = max(1.0, float(theirs.values.abs().max()))
        assert float((ours.values - theirs.values).abs().max()) <= TOLERANCE * scale


@pytest.mark.parametrize("maker", tiny_models.MAKERS)
def test_convolutional_towers_and_no_others_are_channels_last(maker: str, loaded: Loaded) -> None:
    assert is_channels_last(loaded(maker)) == (maker == "timm_resnet")


@pytest.mark.parametrize(
    ("architecture", "convolves"),
    [
        ("test_efficientnet", True),
        ("mobilenetv3_small_050", True),
        ("convnext_atto", False),  # though its linear layers are 1x1 convolutions
        ("convnext_tiny", False),
        ("vit_tiny_patch16_224", False),
        ("swin_tiny_patch4_window7_224", False),
    ],
)
def test_the_structure_says_what_convolves(architecture: str, convolves: bool) -> None:
    import timm

    with torch.device("meta"):
        model = timm.create_model(architecture, pretrained=False, num_classes=0)
    assert is_convolutional(model) == convolves


def test_a_patch_embedding_is_no_convolution() -> None:
    patches = torch.nn.Conv2d(3, 64, 8, stride=8)
    norm, head = torch.nn.BatchNorm2d(64), torch.nn.Linear(64, 4)
    assert not is_convolutional(torch.nn.Sequential(patches, norm, head))
    assert is_convolutional(torch.nn.Sequential(patches, norm, torch.nn.Conv2d(64, 64, 3), head))


def test_a_tiny_resnet_gives_what_it_gave(loaded: Loaded) -> None:
    assert_equal_to_plain(loaded("timm_resnet"), 5)


def test_efficientnet_lite0_gives_what_it_gave(shared: Path) -> None:
    folder = shared / "data" / "efficientnet_lite0"
    if not folder.is_dir():
        pytest.skip(f"no EfficientNet-Lite0 at {folder}; set DEPONIJ_SHARED to run this test")
    assert_equal_to_plain(load(str(folder)), 4)
