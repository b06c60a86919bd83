"""A two-tower backbone as a module: its loss by the libraries' own, what learns of it, and its folder."""

import math
from pathlib import Path

import pytest
import tiny_models
import torch
import torch.nn.functional as F
from tuning_world import by_lora, learned, pixels_for, tower_of

from deponij.pipeline.backbones import load
from deponij.pipeline.backbones.contract import Backbone
from deponij.pipeline.tuning.learning import LearningParams
from deponij.pipeline.tuning.pairs import Pairs
from deponij.pipeline.tuning.saved import save_tuned
from deponij.store.errors import UsageError

TWO_TOWERS = ("open_clip_vit", "open_clip_convnext", "siglip", "siglip2")
FULL = LearningParams(way="full")
TEXTS = list(tiny_models.TEXTS)
# What is learned of the loss, in a model library's names.
TEMPERATURE = {"logit_scale", "logit_bias"}


def loss_of(pairs: Pairs, pixels: torch.Tensor) -> torch.Tensor:
    return pairs.contrast(
        pairs(pixels), pairs.embed_token_ids(pairs.token_ids(TEXTS)), torch.arange(len(TEXTS))
    )


def of_text(backbone: Backbone) -> dict[str, torch.Tensor]:
    """Copies of all weights but those of the vision tower, by name."""
    own = {id(one) for one in backbone.vision.parameters()}
    named = backbone.model.named_parameters()
    return {name: one.detach().clone() for name, one in named if id(one) not in own}


def moved_temperature(pairs: Pairs) -> None:
    """As if it had learned."""
    with torch.no_grad():
        for one in pairs.learning_beside:
            one.add_(0.3)


@pytest.mark.parametrize("name", ["open_clip_vit", "siglip"])
def test_the_loss_is_open_clips_of_the_librarys_own_embeddings(shelf: tiny_models.Shelf, name: str) -> None:
    from open_clip.loss import ClipLoss, SigLipLoss

    backbone = load(str(shelf[name]))
    model, pixels = backbone.model, pixels_for(backbone, len(TEXTS))
    image = F.normalize(backbone.embed_images(pixels), dim=-1)
    text = F.normalize(backbone.embed_texts(TEXTS), dim=-1)
    scale = model.logit_scale.exp()
    if name == "siglip":
        wanted = SigLipLoss()(image, text, scale, model.logit_bias)
    else:
        wanted = ClipLoss()(image, text, scale)
    found = loss_of(Pairs(tower_of(shelf, name)), pixels)
    assert found.item() == pytest.approx(wanted.item(), abs=1e-6 * max(1.0, wanted.item()))


def test_an_open_clip_with_a_bias_has_the_sigmoid_loss(tmp_path: Path) -> None:
    """open_clip's own models for SigLIP say so by `init_logit_bias`; n pictures that fit none of n texts at bias -10."""
    import json

    from safetensors.torch import load_file, save_file

    folder = tiny_models.open_clip_vit(tmp_path / "model")
    record = json.loads((folder / "open_clip_config.json").read_text())
    record["model_cfg"] |= {"init_logit_bias": -10, "custom_text": True}
    (folder / "open_clip_config.json").write_text(json.dumps(record))
    tensors = load_file(folder / "open_clip_model.safetensors")
    tensors |= {"logit_bias": torch.tensor(-10.0), "logit_scale": torch.tensor(0.0)}
    save_file(tensors, folder / "open_clip_model.safetensors")
    from deponij.pipeline.tuning.tower import Tower

    pairs = Pairs(Tower(load(str(folder))))
    assert len(pairs.learning_beside) == 2
    nothing = torch.zeros(3, 24)
    wanted = math.log(1 + math.exp(10)) + 2 * math.log(1 + math.exp(-10))
    found = pairs.contrast(nothing, nothing, torch.arange(3)).item()
    assert found == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("name", TWO_TOWERS)
def test_adapters_temperature_and_bias_learn_and_no_text(shelf: tiny_models.Shelf, name: str) -> None:
    pairs = Pairs(tower_of(shelf, name, by_lora()))
    pixels = pixels_for(pairs.tower.backbone, len(TEXTS))
    learned(pairs.tower)  # B begins with zeros, behind which A has no gradient
    pairs.train()
    loss_of(pairs, pixels).backward()
    learning = {key: one for key, one in pairs.model.named_parameters() if one.requires_grad}
    assert {key for key in learning if ".lora_" not in key} == TEMPERATURE & set(
        dict(pairs.model.named_parameters())
    )
    assert all(one.grad is not None and one.grad.abs().max() > 0 for one in learning.values())
    assert len(learning) > 4


@pytest.mark.parametrize("name", TWO_TOWERS)
def test_with_text_all_that_has_a_part_learns(shelf: tiny_models.Shelf, name: str) -> None:
    pairs = Pairs(tower_of(shelf, name, FULL), text_learns=True)
    pairs.train()
    loss_of(pairs, pixels_for(pairs.tower.backbone, len(TEXTS))).backward()
    own = {id(one) for one in pairs.tower.vision.parameters()}
    text = {key: one for key, one in pairs.model.named_parameters() if id(one) not in own}
    without = {key for key, one in text.items() if one.grad is None}
    assert without == set(), "of these models every weight has a part"
    assert pairs.n_text_weights == sum(one.numel() for key, one in text.items() if key not in TEMPERATURE)


@pytest.mark.parametrize("name", TWO_TOWERS)
def test_the_folder_of_adapters_has_the_temperature_and_the_texts_as_they_were(
    shelf: tiny_models.Shelf, tmp_path: Path, name: str
) -> None:
    pairs = Pairs(tower_of(shelf, name, by_lora()))
    learned(pairs.tower)
    moved_temperature(pairs)
    pixels = pixels_for(pairs.tower.backbone)
    save_tuned(tmp_path / "tuned", pairs.tower, str(shelf[name]), {})
    found, base = load(str(tmp_path / "tuned")), load(str(shelf[name]))
    wanted, seen = pairs(pixels).detach(), F.normalize(found.embed_images(pixels), dim=-1)
    assert (seen - wanted).abs().max() <= 1e-5
    assert (F.normalize(base.embed_images(pixels), dim=-1) - wanted).abs().max() > 0.01
    before, after = of_text(base), of_text(found)
    assert before.keys() == after.keys()
    for key, one in before.items():
        expected = one + 0.3 if key in TEMPERATURE else one
        assert torch.equal(after[key], expected), key
    assert torch.equal(found.embed_texts(TEXTS), base.embed_texts(TEXTS))


@pytest.mark.parametrize("name", ["open_clip_vit", "siglip"])
def test_the_folder_of_both_towers_has_both(shelf: tiny_models.Shelf, tmp_path: Path, name: str) -> None:
    pairs = Pairs(tower_of(shelf, name, FULL), text_learns=True)
    made = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for one in pairs.parameters():
            one.add_(torch.randn(one.shape, generator=made) * 0.02)
    save_tuned(tmp_path / "tuned", pairs.tower, str(shelf[name]), {})
    found, base = load(str(tmp_path / "tuned")), load(str(shelf[name]))
    wanted = pairs.embed_token_ids(pairs.token_ids(TEXTS)).detach()
    assert (F.normalize(found.embed_texts(TEXTS), dim=-1) - wanted).abs().max() <= 1e-5
    assert (F.normalize(base.embed_texts(TEXTS), dim=-1) - wanted).abs().max() > 1e-3
    assert torch.equal(found.model.logit_scale, pairs.model.get_parameter("logit_scale"))


@pytest.mark.parametrize(("own", "highest"), [(2.0, math.log(100)), (4.765, 4.765)])
def test_the_temperature_is_held_where_it_began_or_at_a_hundred(
    shelf: tiny_models.Shelf, own: float, highest: float
) -> None:
    """4.765: that of google/siglip-base-patch16-224, a scale of 117."""
    tower = tower_of(shelf, "siglip")
    tower.backbone.model.logit_scale.data.fill_(own)
    pairs = Pairs(tower)
    scale = pairs.model.get_parameter("logit_scale")
    scale.data.fill_(9.0)
    loss_of(pairs, pixels_for(tower.backbone, len(TEXTS))).backward()
    assert scale.item() == pytest.approx(highest)
    # CLIP clips the number, not its gradient: it can come down again.
    assert scale.grad is not None and scale.grad.abs().item() > 0
    scale.data.fill_(-1.0)
    pairs.hold_scale()
    assert scale.item() == 0.0


def test_what_has_no_text_tower_is_refused(shelf: tiny_models.Shelf) -> None:
    told = r"dinov2 \(family dinov2\) has no text tower .*families that have one: open_clip, siglip$"
    with pytest.raises(UsageError, match=told):
        Pairs(tower_of(shelf, "dinov2"))


def test_training_mode_is_of_what_learns(shelf: tiny_models.Shelf) -> None:
    frozen = Pairs(tower_of(shelf, "siglip", FULL)).train()
    assert frozen.tower.vision.training
    assert not any(one.training for one in frozen.model.get_submodule("text_model").modules())
    both = Pairs(tower_of(shelf, "siglip", FULL), text_learns=True).train()
    assert all(one.training for one in both.model.get_submodule("text_model").modules())
    assert not any(one.training for one in both.eval().modules())
