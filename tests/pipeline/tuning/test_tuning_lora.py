"""Adapters: what each role wraps in each family, how many weights learn, and that frozen ones stay as they are."""

import copy
import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_models
import torch
from pydantic import ValidationError
from torch import nn
from tuning_world import by_lora, learning, pixels_for, step, tower_of

from deponij.pipeline.backbones import adapters, load, low_rank
from deponij.pipeline.backbones.contract import Backbone
from deponij.pipeline.tuning.learning import LearningParams, let_learn
from deponij.pipeline.tuning.lora import LoraParams, Role, add_lora, roles_of
from deponij.pipeline.tuning.network import Network
from deponij.pipeline.tuning.tower import Tower
from deponij.store.errors import UsageError

# Modules by hand: 2 blocks of the transformers and 3 of DINOv2's, timm's test_vit of 6, test_convnext of 9 blocks, and
# the 1x1 convolutions of test_resnet (in one bottleneck, and on three ways past blocks).
WRAPPED: dict[str, dict[Role, int]] = {
    "open_clip_vit": {"attention": 2, "mlp": 4, "all": 6},
    "open_clip_convnext": {"mlp": 18, "pointwise": 18, "all": 18},
    "siglip": {"attention": 8, "qv": 4, "mlp": 4, "all": 12},
    "siglip2": {"attention": 8, "qv": 4, "mlp": 4, "all": 12},
    "dinov2": {"attention": 12, "qv": 6, "mlp": 6, "all": 18},
    "dinov2_registers": {"attention": 12, "qv": 6, "mlp": 6, "all": 18},
    "timm_vit": {"attention": 12, "mlp": 12, "all": 24},
    "timm_resnet": {"pointwise": 5, "all": 5},
}
CASES = [(name, role) for name, roles in WRAPPED.items() for role in roles]


def hash_of(model: nn.Module) -> str:
    """Of all weights and buffers that are no adapters', by the names that they have without one."""
    found = hashlib.sha256()
    for name, one in sorted(model.state_dict().items()):
        if ".lora_" not in name:
            found.update(name.replace(".base_layer", "").encode() + one.numpy().tobytes())
    return found.hexdigest()


@pytest.mark.parametrize("name", WRAPPED)
def test_what_the_roles_wrap(shelf: tiny_models.Shelf, name: str) -> None:
    roles = roles_of(tower_of(shelf, name))
    assert {role: len(names) for role, names in roles.items()} == WRAPPED[name]
    assert not any("head" in one or "text" in one for one in roles["all"])


@pytest.mark.parametrize("name", WRAPPED)
def test_usual_is_attention_else_convolutions(shelf: tiny_models.Shelf, name: str) -> None:
    roles = WRAPPED[name]
    n_wrapped = add_lora(tower_of(shelf, name), LoraParams())
    assert n_wrapped == roles.get("attention", roles.get("pointwise"))


def test_a_siglip_without_words_has_the_same(shelf: tiny_models.Shelf, tmp_path: Path) -> None:
    from transformers import SiglipVisionModel

    SiglipVisionModel.from_pretrained(shelf["siglip"]).save_pretrained(tmp_path)
    shutil.copy(shelf["siglip"] / "preprocessor_config.json", tmp_path)
    tower = Tower(load(str(tmp_path)))
    assert {role: len(names) for role, names in roles_of(tower).items()} == WRAPPED["siglip"]
    assert add_lora(tower, by_lora("qv").lora) == 4


@pytest.mark.parametrize(("name", "role"), CASES)
def test_adapters_begin_as_the_base_and_all_of_them_learn(
    shelf: tiny_models.Shelf, name: str, role: Role
) -> None:
    base = load(str(shelf[name]))
    pixels, wanted = pixels_for(base), hash_of(base.model)
    tower = Tower(load(str(shelf[name])))
    assert add_lora(tower, by_lora(role).lora) == WRAPPED[name][role]
    torch.testing.assert_close(tower(pixels).detach(), base.embed_images(pixels), rtol=1e-5, atol=1e-5)
    before = [one.detach().clone() for one in learning(tower)]
    optimizer = torch.optim.SGD(learning(tower), lr=0.1)
    for _ in range(2):
        step(tower.train(), optimizer, pixels)
    assert all(one.grad is not None and bool(one.grad.any()) for one in learning(tower))
    assert not any(torch.equal(one, former) for one, former in zip(learning(tower), before, strict=True))
    assert len(learning(tower)) == len(low_rank.tensors_of(tower.backbone.model))
    # bit for bit, also where peft puts its update into the weights for each forward pass
    assert hash_of(tower.backbone.model) == wanted


@pytest.mark.parametrize("name", ["siglip", "siglip2", "open_clip_vit", "open_clip_convnext"])
def test_words_stay_what_they_are(shelf: tiny_models.Shelf, name: str) -> None:
    tower = tower_of(shelf, name, by_lora())
    wanted = load(str(shelf[name])).embed_texts(tiny_models.TEXTS)
    optimizer = torch.optim.SGD(learning(tower), lr=0.1)
    step(tower.train(), optimizer, pixels_for(tower.backbone))
    assert torch.equal(tower.eval().backbone.embed_texts(tiny_models.TEXTS), wanted)


@pytest.mark.parametrize(
    ("name", "role", "told"),
    [
        ("open_clip_vit", "qv", "all, attention, mlp"),
        ("timm_vit", "qv", "all, attention, mlp"),
        ("timm_vit", "pointwise", "all, attention, mlp"),
        ("timm_resnet", "attention", "all, pointwise"),
        ("dinov2", "pointwise", "all, attention, mlp, qv"),
    ],
)
def test_a_role_that_names_nothing_is_refused(
    shelf: tiny_models.Shelf, name: str, role: Role, told: str
) -> None:
    tower = tower_of(shelf, name)
    with pytest.raises(UsageError, match=f"no modules of the role '{role}'; roles that it has: {told}$"):
        add_lora(tower, by_lora(role).lora)


@pytest.mark.parametrize("role", ["attention", "all"])
def test_what_attention_in_one_piece_cannot(shelf: tiny_models.Shelf, role: Role) -> None:
    for wrong in ({"dora": True}, {"dropout": 0.1}):
        params = LoraParams.model_validate({"targets": role} | wrong)
        with pytest.raises(UsageError, match=f"{next(iter(wrong))} is not possible; .*targets: mlp"):
            add_lora(tower_of(shelf, "open_clip_vit"), params)
    assert add_lora(tower_of(shelf, "open_clip_vit"), LoraParams(targets="mlp", dora=True, dropout=0.1)) == 4


def test_as_many_weights_learn_as_in_pefts_example(tmp_path: Path) -> None:
    """667,493: rank 16 on queries and values of ViT-B/16, 12 blocks of width 768, and a classifier of 101 classes."""
    from transformers import Dinov2Config, Dinov2Model

    # What is between two attentions has no part in it: a narrow one is written and read sooner.
    size = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "mlp_ratio": 1}
    config = Dinov2Config(**size, image_size=28, patch_size=14)
    tower = Tower(load(str(tiny_models.written_dinov2(tmp_path / "base", Dinov2Model, config))))
    lora = LoraParams(rank=16, alpha=16, dropout=0.1, targets="qv")
    n_learned = let_learn(tower, LearningParams(lora=lora))
    network = Network(tower, torch.zeros(768), torch.ones(768), torch.zeros(101, 768), torch.zeros(101))
    learning_there = [one.numel() for one in network.parameters() if one.requires_grad]
    assert n_learned == 589_824
    assert sum(learning_there) == 667_493


def test_dora_on_convolutions(shelf: tiny_models.Shelf) -> None:
    """Begins as the base; directions and lengths learn, and nothing else."""
    base = load(str(shelf["timm_resnet"]))
    pixels, wanted = pixels_for(base), hash_of(base.model)
    tower = Tower(load(str(shelf["timm_resnet"])))
    assert add_lora(tower, by_lora("pointwise", dora=True).lora) == WRAPPED["timm_resnet"]["pointwise"]
    torch.testing.assert_close(tower(pixels).detach(), base.embed_images(pixels), rtol=1e-5, atol=1e-5)
    before = [one.detach().clone() for one in learning(tower)]
    optimizer = torch.optim.SGD(learning(tower), lr=0.1)
    for _ in range(2):
        step(tower.train(), optimizer, pixels)
    assert len(before) == 3 * WRAPPED["timm_resnet"]["pointwise"], "A, B and lengths"
    assert not any(torch.equal(one, former) for one, former in zip(learning(tower), before, strict=True))
    assert hash_of(tower.backbone.model) == wanted


def test_adapters_are_added_once(shelf: tiny_models.Shelf) -> None:
    tower = tower_of(shelf, "dinov2", by_lora())
    with pytest.raises(UsageError, match="adapters already"):
        add_lora(tower, LoraParams())


@pytest.mark.parametrize(
    "wrong",
    [{"rank": 0}, {"alpha": 0}, {"dropout": 1}, {"targets": "q_proj"}, {"ranks": 4}, {"alpha": "nan"}],
)
def test_wrong_lora_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LoraParams.model_validate(wrong)


def test_the_same_seed_begins_alike_and_leaves_others_alone(shelf: tiny_models.Shelf) -> None:
    state = torch.random.get_rng_state()
    found = []
    for seed in (1, 1, 2):
        tower = tower_of(shelf, "dinov2")
        add_lora(tower, LoraParams(), seed)
        found.append(torch.cat([one.detach().flatten() for one in learning(tower)]))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(("rslora", "scale"), [(False, 8 / 4), (True, 8 / 2)])
def test_the_update_is_scale_times_b_a(shelf: tiny_models.Shelf, rslora: bool, scale: float) -> None:
    model = nn.Sequential(nn.Linear(6, 5))
    weight, bias = model[0].weight.detach().clone(), model[0].bias.detach().clone()
    low_rank.wrap(model, ["0"], adapters.LowRank(4, 8, rslora))
    a, b = low_rank.tensors_of(model).values()
    made = torch.Generator().manual_seed(0)
    with torch.no_grad():
        b.copy_(torch.randn(5, 4, generator=made))
    rows = torch.randn(3, 6, generator=made)
    torch.testing.assert_close(model(rows), rows @ (weight + scale * b @ a).T + bias)


def test_what_peft_does_to_attention_in_one_piece() -> None:
    """peft 0.21 adds the update of the output's projection twice; folders are read by the same rule that they are
    learned by. Where another release does otherwise, this fails, and adapters of open_clip's attention mean something else.
    """
    model = nn.ModuleDict({"attn": nn.MultiheadAttention(8, 2, batch_first=True)}).requires_grad_(False)
    plain = copy.deepcopy(model)
    low_rank.wrap(model, ["attn"], adapters.LowRank(2, 2))
    found = low_rank.tensors_of(model)
    made = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for one in found.values():
            one.copy_(torch.randn(one.shape, generator=made) * 0.3)
    inner, outer = "base_model.model.attn.", "base_model.model.attn.base_layer.out_proj."
    attention = plain["attn"]
    attention.in_proj_weight.data += found[f"{inner}lora_B.weight"] @ found[f"{inner}lora_A.weight"]
    attention.out_proj.weight.data += 2 * found[f"{outer}lora_B.weight"] @ found[f"{outer}lora_A.weight"]
    rows = torch.randn(2, 5, 8, generator=made)
    torch.testing.assert_close(model["attn"](rows, rows, rows)[0], attention(rows, rows, rows)[0])


def test_expressions_fit_their_names_alone() -> None:
    others = ["a.0.q", "a.1.q", "a.0.k", "b.0.q", "xa.0.q"]
    assert low_rank.expression(["a.0.q", "a.1.q"], others) == r"a\.\d+\.q"
    assert low_rank.expression(["a.0.q"], others) == r"a\.0\.q"
    assert low_rank.expression(["layer2.0.c", "layer3.0.c"], ["layer2.0.c", "layer3.0.c"]) == (
        r"layer2\.\d+\.c|layer3\.\d+\.c"
    )


def as_large(small: Backbone, model: nn.Module, **facts: object) -> Tower:
    """A tower of a published size without memory for its weights; random ones would count the same."""
    return Tower(type(small)(replace(small.description, **facts), model))  # type: ignore[arg-type]


# of the role: published widths times rank, counted by hand from 12 blocks of width 768 and rank 8
@pytest.mark.parametrize(
    ("role", "n"), [("qv", 294_912), ("attention", 589_824), ("all", 1_327_104), ("mlp", 737_280)]
)
def test_how_many_weights_of_dinov2_base_learn(shelf: tiny_models.Shelf, role: Role, n: int) -> None:
    from transformers import Dinov2Config, Dinov2Model

    with torch.device("meta"):
        model = Dinov2Model(Dinov2Config())
    facts = {"input_px": (224, 224), "n_blocks": 12, "dim": 768, "token_dim": 768}
    tower = as_large(load(str(shelf["dinov2"])), model, **facts)
    add_lora(tower, LoraParams(targets=role))
    assert sum(one.numel() for one in learning(tower)) == n


def test_how_many_weights_of_an_open_clip_vit_b_learn(shelf: tiny_models.Shelf) -> None:
    from open_clip.model import CLIP

    # peft copies attention in one piece, so that it needs memory: published blocks, little around them
    vision = {"image_size": 32, "patch_size": 16, "layers": 12, "width": 768}
    text = {"context_length": 4, "vocab_size": 10, "width": 32, "heads": 2, "layers": 1}
    facts = {"input_px": (32, 32), "n_blocks": 12, "patch_px": 16, "dim": 512}
    tower = as_large(load(str(shelf["open_clip_vit"])), CLIP(512, vision, text), **facts)
    assert add_lora(tower, LoraParams(targets="attention")) == 12
    assert sum(one.numel() for one in learning(tower)) == 442_368
