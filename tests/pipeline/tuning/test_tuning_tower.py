"""Towers against the frozen backbone's own embeddings, and what is in training mode."""

from typing import Literal

import pytest
import tiny_models
import torch
from torch import nn
from tuning_world import OTHER_PX, by_lora, learning, pixels_for, step, tower_of

from deponij.pipeline.backbones import load
from deponij.pipeline.tuning.learning import LearningParams, let_learn
from deponij.pipeline.tuning.tower import Tower
from deponij.store.errors import BackboneError


@pytest.mark.parametrize("resized", [False, True])
@pytest.mark.parametrize("name", tiny_models.MAKERS)
def test_its_embeddings_are_those_of_the_frozen_backbone(
    shelf: tiny_models.Shelf, name: str, resized: bool
) -> None:
    tower = tower_of(shelf, name, LearningParams(way="full"), OTHER_PX[name] if resized else None)
    pixels = pixels_for(tower.backbone)
    rows = tower(pixels)
    assert rows.requires_grad and rows.shape == (2, tower.backbone.description.dim)
    torch.testing.assert_close(rows.detach(), tower.backbone.embed_images(pixels), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", tiny_models.MAKERS)
def test_checkpointing_changes_no_gradient(
    shelf: tiny_models.Shelf, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    real = torch.utils.checkpoint.checkpoint
    places = ("torch.utils.checkpoint", "transformers.modeling_utils", "open_clip.transformer")
    for module in (*places, "timm.models._manipulate"):
        monkeypatch.setattr(f"{module}.checkpoint", lambda *a, **k: calls.append(1) or real(*a, **k))
    gradients = []
    for checkpointing in (False, True):
        tower = Tower(load(str(shelf[name])), checkpointing=checkpointing)
        # no norm learns, so that none is in training mode and sees a batch twice
        tower.learn([one for one in tower.parts().values() if one.ndim > 1])
        pixels = pixels_for(tower.backbone)
        tower.train()(pixels).square().mean().backward()
        gradients.append([one.grad for one in learning(tower)])
        assert bool(calls) is checkpointing
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["open_clip_vit", "dinov2"])
def test_adapters_learn_the_same_with_checkpointing(shelf: tiny_models.Shelf, name: str) -> None:
    found = []
    for checkpointing in (False, True):
        tower = Tower(load(str(shelf[name])), checkpointing=checkpointing)
        let_learn(tower, by_lora())
        optimizer = torch.optim.SGD(learning(tower), lr=0.5)
        for _ in range(2):
            step(tower.train(), optimizer, pixels_for(tower.backbone))
        found.append([one.detach() for one in learning(tower)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_checkpointing_that_a_library_lacks_is_refused(shelf: tiny_models.Shelf) -> None:
    backbone = load(str(shelf["timm_vit"]))
    backbone.model.set_grad_checkpointing = None
    del backbone.model.set_grad_checkpointing
    backbone.model.__class__ = type("Plain", (type(backbone.model),), {"set_grad_checkpointing": _refuse})
    with pytest.raises(BackboneError, match="no gradient checkpointing"):
        Tower(backbone, checkpointing=True)


def _refuse(model: nn.Module, enable: bool = True) -> None:
    assert not enable, "as timm's own models that cannot"


def test_other_sizes_and_precisions_are_refused(shelf: tiny_models.Shelf) -> None:
    tower = tower_of(shelf, "timm_resnet")
    with pytest.raises(BackboneError, match=r"64x64 px.*160x160.*input_px"):
        tower(torch.zeros(1, 3, 64, 64))
    with pytest.raises(BackboneError, match="bf16"):
        Tower(load(str(shelf["dinov2"]), precision="bf16"))


@pytest.mark.parametrize("name", ["siglip", "open_clip_vit"])
def test_the_text_tower_is_no_part_of_it(shelf: tiny_models.Shelf, name: str) -> None:
    tower = tower_of(shelf, name, LearningParams(way="full"))
    own = {id(one) for one in tower.parameters()}
    others = [one for one in tower.backbone.model.parameters() if id(one) not in own]
    assert others and not any(one.requires_grad for one in others)


def test_only_what_learns_is_in_training_mode(shelf: tiny_models.Shelf) -> None:
    params = LearningParams(way="last-blocks", n_blocks=1, moments="learn")
    tower = tower_of(shelf, "timm_resnet", params).train()
    norms = {name: one for name, one in tower.named_modules() if isinstance(one, nn.BatchNorm2d)}
    # from timm's names: the last of its blocks is layer4.0
    last = {name for name in norms if name.startswith("vision.layer4.0.")}
    assert last and {name for name, one in norms.items() if one.training} == last
    assert not any(one.training for one in tower.eval().modules())


@pytest.mark.parametrize("moments", ["keep", "learn"])
def test_moments_of_batch_norms_follow_batches_where_they_are_asked_to(
    shelf: tiny_models.Shelf, moments: Literal["keep", "learn"]
) -> None:
    tower = tower_of(shelf, "timm_resnet", LearningParams(way="full", moments=moments))
    before = {name: one.clone() for name, one in tower.named_buffers() if name.endswith("running_mean")}
    pixels = pixels_for(tower.backbone)
    same = tower.eval()(pixels).detach()
    seen = tower.train()(pixels).detach()
    assert torch.equal(seen, same) is (moments == "keep")
    after = dict(tower.named_buffers())
    assert all(torch.equal(after[name], one) for name, one in before.items()) is (moments == "keep")
    assert all(one.requires_grad for one in tower.parameters())


def test_dropout_of_adapters_is_in_training_mode_and_no_other(shelf: tiny_models.Shelf) -> None:
    params = by_lora("mlp").model_copy(
        update={"lora": by_lora("mlp").lora.model_copy(update={"dropout": 0.5})}
    )
    tower = tower_of(shelf, "dinov2", params).train()
    dropouts = {name for name, one in tower.named_modules() if isinstance(one, nn.Dropout) and one.training}
    assert dropouts == {name for name, _ in tower.named_modules() if name.endswith("lora_dropout.default")}
    assert len(dropouts) == 6
