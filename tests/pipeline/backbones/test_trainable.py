"""Encoders that learn: against `pyramid` of the frozen backbone, and where gradients arrive."""

import pytest
import tiny_models
import torch
from torch import nn

from deponij.pipeline.backbones import load
from deponij.pipeline.backbones.contract import Backbone
from deponij.pipeline.backbones.kinds import Kind
from deponij.pipeline.backbones.trainable import TrainablePyramid
from deponij.store.errors import BackboneError

CONVOLUTIONAL = ("open_clip_convnext", "timm_resnet")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> tiny_models.Shelf:
    return tiny_models.Shelf(tmp_path_factory.mktemp("models"))


def opened(shelf: tiny_models.Shelf, name: str) -> Backbone:
    return load(str(shelf[name]))


def n_levels(name: str) -> int:
    return 4 if name in CONVOLUTIONAL else 2


def pixels(backbone: Backbone, n: int = 2) -> torch.Tensor:
    return torch.randn(n, 3, *backbone.description.input_px, generator=torch.Generator().manual_seed(1))


def summed(module: TrainablePyramid, batch: torch.Tensor) -> torch.Tensor:
    """A number that every map has a part in, squared so that no norm makes its gradient zero."""
    made = torch.Generator().manual_seed(2)
    parts = [(one * torch.randn(one.shape, generator=made)).square().sum() for one in module(batch)]
    return torch.stack(parts).sum()


@pytest.mark.parametrize("name", tiny_models.MAKERS)
def test_its_maps_are_those_of_the_frozen_backbone(shelf: tiny_models.Shelf, name: str) -> None:
    backbone = opened(shelf, name)
    batch = pixels(backbone)
    frozen = list(Kind.parse(f"pyramid@{n_levels(name)}").compute(backbone, batch).values())
    module = TrainablePyramid(backbone, n_levels(name)).eval()
    with torch.no_grad():
        for ours, wanted in zip(module(batch), frozen, strict=True):
            torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("learns", ["all", "last", "none"])
@pytest.mark.parametrize("name", tiny_models.MAKERS)
def test_gradients_arrive_exactly_where_something_learns(
    shelf: tiny_models.Shelf, name: str, learns: str
) -> None:
    backbone = opened(shelf, name)
    module = TrainablePyramid(backbone, n_levels(name), learns).train()  # type: ignore[arg-type]
    found = summed(module, pixels(backbone))
    learning = {key for key, one in module.named_parameters() if one.requires_grad}
    if learns == "none":
        assert learning == set() and not found.requires_grad
        return
    found.backward()
    arrived = {key for key, one in module.named_parameters() if one.grad is not None and one.grad.any()}
    # the bias of a key shifts all of a row's logits alike, so that its gradient is zero but for rounding
    assert arrived <= learning and all("k" in key for key in learning - arrived)
    assert not any(one.grad is not None for one in backbone.model.parameters() if not one.requires_grad)


def test_the_last_stage_is_the_last_one(shelf: tiny_models.Shelf) -> None:
    module = TrainablePyramid(opened(shelf, "open_clip_convnext"), 4, "last")
    learning = {key for key, one in module.named_parameters() if one.requires_grad}
    # written down from timm's names: four stages, then the norm of the head and open_clip's projection
    stage = {key for key, _ in module.named_parameters() if key.startswith("vision.trunk.stages.3.")}
    assert learning == stage | {
        "vision.trunk.head.norm.weight",
        "vision.trunk.head.norm.bias",
        "vision.head.proj.weight",
    }


@pytest.mark.parametrize("size_px", [(64, 96), (75, 50), (33, 47)])
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_towers_of_convolutions_take_any_size(
    shelf: tiny_models.Shelf, name: str, size_px: tuple[int, int]
) -> None:
    module = TrainablePyramid(opened(shelf, name), 4).train()
    maps = module(torch.randn(2, 3, *size_px))
    strides = [size_px[0] / one.shape[2] for one in maps]
    assert len(maps) == 4 and strides == sorted(strides) and all(one.isfinite().all() for one in maps)


def test_plain_transformers_name_their_size(shelf: tiny_models.Shelf) -> None:
    module = TrainablePyramid(opened(shelf, "open_clip_vit"), 2)
    with pytest.raises(BackboneError, match="32x32.*input_px"):
        module(torch.randn(1, 3, 32, 40))


@pytest.mark.parametrize(
    ("learns", "fixed", "moves"), [("all", False, True), ("all", True, False), ("none", False, False)]
)
def test_batch_norms_learn_their_statistics_or_not(
    shelf: tiny_models.Shelf, learns: str, fixed: bool, moves: bool
) -> None:
    module = TrainablePyramid(opened(shelf, "timm_resnet"), 4, learns, fixed_norms=fixed)  # type: ignore[arg-type]
    norms = [one for one in module.modules() if isinstance(one, nn.BatchNorm2d)]
    before = [one.running_mean.clone() for one in norms if one.running_mean is not None]
    module.train()(torch.randn(2, 3, 64, 64))
    after = [one.running_mean for one in norms if one.running_mean is not None]
    changed = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert norms and all(changed) if moves else not any(changed)


def test_of_the_last_stage_alone_the_norms_move(shelf: tiny_models.Shelf) -> None:
    module = TrainablePyramid(opened(shelf, "timm_resnet"), 4, "last").train()
    norms = {key: one for key, one in module.named_modules() if isinstance(one, nn.BatchNorm2d)}
    assert {key for key, one in norms.items() if one.training} == {
        key for key in norms if key.startswith("vision.layer4.")
    }


def test_another_precision_is_refused(shelf: tiny_models.Shelf) -> None:
    with pytest.raises(BackboneError, match="fp32"):
        TrainablePyramid(opened(shelf, "timm_resnet").to("cpu", "bf16"))


def test_what_is_learned_can_be_saved_by_name(shelf: tiny_models.Shelf) -> None:
    one = TrainablePyramid(opened(shelf, "open_clip_convnext"), 4)
    other = TrainablePyramid(opened(shelf, "open_clip_convnext"), 4)
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.mul_(1.1)
    other.load_state_dict(one.state_dict())
    batch = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(one.eval()(batch), other.eval()(batch), strict=True):
            assert torch.equal(a, b)
