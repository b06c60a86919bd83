"""Which weights learn in each way, and the groups that they learn in; names are written down from the libraries'."""

import pytest
import tiny_models
import torch
from pydantic import ValidationError
from torch import nn
from tuning_world import by_lora, learning, names_of, pixels_for, step, tower_of

from deponij.pipeline.tuning.depths import block_key, depths_of, inside_block
from deponij.pipeline.tuning.learning import LearningParams, Way, groups, let_learn
from deponij.store.errors import UsageError

WAYS: tuple[Way, ...] = ("full", "last-blocks", "norms", "biases", "lora")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", tiny_models.MAKERS)
def test_what_learns_moves_and_nothing_else(shelf: tiny_models.Shelf, name: str, way: Way) -> None:
    tower = tower_of(shelf, name, LearningParams(way=way, lora=by_lora().lora))
    model: nn.Module = tower.backbone.model
    chosen = names_of(model, learning(tower))
    before = {key: one.clone() for key, one in model.state_dict().items()}
    optimizer = torch.optim.SGD(learning(tower), lr=0.05)
    tower.train()
    for _ in range(2):
        step(tower, optimizer, pixels_for(tower.backbone))
    moved = {key for key, one in model.state_dict().items() if not torch.equal(one, before[key])}
    statistics = {key for key in before if key.rpartition(".")[2] in _STATISTICS}
    assert moved - statistics <= chosen
    # a key's bias shifts all logits of a row alike, so that its gradient is zero but for rounding
    assert all("k_proj" in key for key in chosen - moved), chosen - moved


_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@pytest.mark.parametrize("name", tiny_models.MAKERS)
def test_with_none_a_tower_learns_nothing(shelf: tiny_models.Shelf, name: str) -> None:
    tower = tower_of(shelf, name)
    assert let_learn(tower, LearningParams(way="none")) == 0
    assert not tower.train()(pixels_for(tower.backbone)).requires_grad
    assert groups(tower, lr_decay=0.5) == []


def test_the_ways_of_dinov2(shelf: tiny_models.Shelf) -> None:
    def learns(way: Way, n_blocks: int = 1) -> set[str]:
        tower = tower_of(shelf, "dinov2", LearningParams(way=way, n_blocks=n_blocks))
        return names_of(tower.vision, learning(tower))

    everything = {name for name, _ in tower_of(shelf, "dinov2").vision.named_parameters()}
    behind = {"layernorm.weight", "layernorm.bias"}
    assert learns("full") == everything - {"embeddings.mask_token"}  # of masked training alone
    assert learns("last-blocks") == behind | {one for one in everything if one.startswith("encoder.layer.2.")}
    assert learns("last-blocks", 3) == behind | {
        one for one in everything if one.startswith("encoder.layer.")
    }
    assert learns("norms") == behind | {
        f"encoder.layer.{block}.norm{norm}.{kind}"
        for block in range(3)
        for norm in (1, 2)
        for kind in ("weight", "bias")
    }
    assert learns("biases") == {one for one in everything if one.endswith(".bias")}
    with pytest.raises(UsageError, match="the last 4 blocks; dinov2 has 3"):
        learns("last-blocks", 4)


def test_depths_by_hand(shelf: tiny_models.Shelf) -> None:
    found = {name: depths_of(tower_of(shelf, name).vision) for name in tiny_models.MAKERS}
    clip, siglip = found["open_clip_vit"], found["siglip"]
    assert clip.n_blocks == 2 and siglip.n_blocks == 2 and found["timm_vit"].n_blocks == 6
    assert [clip.of[name] for name in ("class_embedding", "positional_embedding", "conv1.weight")] == [
        0,
        0,
        0,
    ]
    assert clip.of["transformer.resblocks.1.attn.in_proj_weight"] == 2
    assert [clip.of[name] for name in ("ln_pre.weight", "ln_post.weight", "proj")] == [0, 3, 3]
    assert siglip.of["embeddings.position_embedding.weight"] == 0
    assert siglip.of["head.attention.in_proj_weight"] == siglip.of["post_layernorm.bias"] == 3
    resnet = found["timm_resnet"]
    assert resnet.n_blocks == 4 and resnet.of["bn1.weight"] == 0
    assert resnet.of["layer3.0.downsample.1.weight"] == 3
    convnext = found["open_clip_convnext"].of
    assert convnext["trunk.stem.0.weight"] == 0
    assert convnext["trunk.stages.1.downsample.0.weight"] == convnext["trunk.stages.1.blocks.0.norm.weight"]
    assert (
        convnext["head.proj.weight"]
        == convnext["trunk.head.norm.weight"]
        == found["open_clip_convnext"].n_blocks + 1
    )


@pytest.mark.parametrize(
    ("name", "key", "inside"),
    [
        ("encoder.layer.3.attention.q_proj", (3, 0), ["attention", "q_proj"]),
        ("transformer.resblocks.11.attn", (11, 0), ["attn"]),
        ("trunk.stages.2.blocks.14.mlp.fc1", (2, 14), ["mlp", "fc1"]),
        ("stages.2.downsample.1", (2, 0), ["downsample", "1"]),
        ("blocks.4.1.conv_pw", (4, 1), ["conv_pw"]),
        ("layer2.1.conv1", (2, 1), ["conv1"]),
        ("layer2.0.downsample.0", (2, 0), ["downsample", "0"]),
        ("head.mlp.fc1", None, []),
        ("layernorm.weight", None, []),
        ("", None, []),
    ],
)
def test_where_a_module_lies(name: str, key: tuple[int, int] | None, inside: list[str]) -> None:
    assert (block_key(name), inside_block(name)) == (key, inside)


def test_rates_fall_with_depth_by_hand(shelf: tiny_models.Shelf) -> None:
    tower = tower_of(shelf, "dinov2", LearningParams(way="full"))
    head = nn.Linear(32, 5)
    made = groups(tower, head, lr_decay=0.5, head_lr_factor=10)
    names = {id(one): name for name, one in [*tower.vision.named_parameters(), *head.named_parameters()]}
    found = {
        names[id(one)]: (group.lr_factor, group.weight_decay) for group in made for one in group.parameters
    }
    # 3 blocks: 0.5 ** (4 - depth)
    assert found["embeddings.cls_token"] == (0.0625, None)
    assert found["embeddings.patch_embeddings.projection.bias"] == (0.0625, 0.0)
    assert found["encoder.layer.0.mlp.fc1.weight"] == (0.125, None)
    assert found["encoder.layer.1.norm1.weight"] == (0.25, 0.0)
    assert found["encoder.layer.2.attention.q_proj.weight"] == (0.5, None)
    assert found["encoder.layer.2.layer_scale1.lambda1"] == (0.5, 0.0)
    assert found["layernorm.weight"] == (1.0, 0.0)
    assert found["weight"] == (10, None) and found["bias"] == (10, 0.0)
    assert len(found) == len(learning(tower)) + 2 and "embeddings.mask_token" not in found


def test_adapters_have_the_rate_of_their_block(shelf: tiny_models.Shelf) -> None:
    tower = tower_of(shelf, "open_clip_vit", by_lora("mlp"))
    made = groups(tower, lr_decay=0.5)
    # 2 blocks of 2 layers with 2 matrices each
    assert [(one.lr_factor, one.weight_decay, len(one.parameters)) for one in made] == [
        (0.25, None, 4),
        (0.5, None, 4),
    ]


def test_one_rate_needs_no_blocks(shelf: tiny_models.Shelf) -> None:
    tower = tower_of(shelf, "dinov2", LearningParams(way="full"))
    assert [(one.lr_factor, one.weight_decay) for one in groups(tower)] == [(1.0, 0.0), (1.0, None)]
    for wrong in (0.0, 1.5, float("nan")):
        with pytest.raises(UsageError, match="lr_decay"):
            groups(tower, lr_decay=wrong)
    with pytest.raises(UsageError, match="blocks of a Linear are not known"):
        depths_of(nn.Linear(2, 2))


@pytest.mark.parametrize("wrong", [{"way": "most"}, {"n_blocks": 0}, {"lora": {"rank": 0}}, {"depth": 1}])
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LearningParams.model_validate(wrong)
