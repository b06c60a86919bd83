"""Towers in the training loop: they learn, go on where they were, and frozen weights stay as they are."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_models
import torch
from torch import Tensor, nn
from tuning_world import by_lora, tower_of

from deponij.pipeline.training.checkpoint import read_checkpoint, write_checkpoint
from deponij.pipeline.training.loop import Training, train
from deponij.pipeline.training.params import TrainingParams
from deponij.pipeline.training.task import ParameterGroup
from deponij.pipeline.tuning.learning import LearningParams, groups
from deponij.pipeline.tuning.tower import Tower

PARAMS = TrainingParams(epochs=4, lr=0.02, keep="best", optimizer="adamw", weight_decay=0.01)


class Darkness:
    """Whether a picture's upper or lower half is the brighter one, from a tower's embedding."""

    identity = "darkness"

    def __init__(self, tower: Tower, fail_at: int | None = None) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.head = nn.Linear(tower.backbone.description.dim, 2)
        self.tower, self.fail_at = tower, fail_at
        self.model: nn.Module = nn.Sequential(
            tower, nn.LayerNorm(self.head.in_features, elementwise_affine=False), self.head
        )

    def groups(self) -> list[ParameterGroup]:
        return groups(self.tower, self.head, lr_decay=0.8)

    def n_batches(self) -> int:
        return 4

    def batches(self, epoch: int, first: int = 0) -> Iterator[list[Tensor]]:
        for number in range(first, 4):
            if self.fail_at == epoch:
                raise RuntimeError("pulled the plug")
            yield self._batch(number)

    def _batch(self, seed: int) -> list[Tensor]:
        made = torch.Generator().manual_seed(seed)
        height, width = self.tower.backbone.description.input_px
        labels = torch.randint(0, 2, (8,), generator=made)
        pictures = torch.randn(8, 3, height, width, generator=made)
        upper = (labels * 2 - 1)[:, None, None, None] * 0.5
        pictures[:, :, : height // 2] += upper
        pictures[:, :, height // 2 :] -= upper
        return [pictures, labels]

    def loss(self, batch: list[Tensor]) -> Tensor:
        return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

    def counts(self, batch: list[Tensor]) -> float:
        return len(batch[0])

    def validate(self) -> dict[str, float]:
        with torch.inference_mode():
            return {"minus loss": -float(self.loss(self._batch(99)))}


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("open_clip_vit", by_lora("all")),
        ("dinov2", by_lora("qv", dora=True)),
        ("timm_resnet", LearningParams(way="last-blocks", n_blocks=2)),
    ],
)
def test_a_tower_learns_and_goes_on_where_it_was(
    shelf: tiny_models.Shelf, tmp_path: Path, name: str, params: LearningParams
) -> None:
    def task(fail_at: int | None = None) -> Darkness:
        return Darkness(tower_of(shelf, name, params), fail_at)

    def run(of: Darkness, folder: Path) -> Training:
        return train(of, PARAMS, checkpoint=folder, checkpoint_s=0.0)

    whole, before = task(), task()
    told = run(whole, tmp_path / "whole")
    assert told.history[-1].loss < told.history[0].loss
    frozen = {key: one for key, one in before.tower.named_parameters() if not one.requires_grad}
    after = dict(whole.tower.named_parameters())
    assert frozen and all(torch.equal(one, after[key]) for key, one in frozen.items())
    with pytest.raises(RuntimeError, match="pulled the plug"):
        run(task(fail_at=2), tmp_path / "killed")
    again = task()
    assert run(again, tmp_path / "killed").resumed_at == 8
    found = again.model.state_dict()
    assert all(torch.equal(one, found[key]) for key, one in whole.model.state_dict().items())


@pytest.mark.parametrize("average", [None, 0.9])
def test_a_checkpoint_of_adapters_holds_nothing_that_is_frozen(
    shelf: tiny_models.Shelf, tmp_path: Path, average: float | None
) -> None:
    task = Darkness(tower_of(shelf, "dinov2", by_lora("qv")))
    train(task, PARAMS.model_copy(update={"average": average}), checkpoint=tmp_path / "c")
    n_learning = sum(one.numel() for one in task.model.parameters() if one.requires_grad)
    n_frozen = sum(one.numel() for one in task.model.parameters() if not one.requires_grad)
    n_buffers = sum(
        one.numel()
        for name, one in task.model.state_dict().items()
        if name not in {name for name, _ in task.model.named_parameters(remove_duplicate=False)}
    )
    _, tensors = read_checkpoint(tmp_path / "c")
    # The weights now, those of the best epoch, Adam's two moments, and the average.
    times = 4 if average is None else 5
    n_steps = len([one for one in task.model.parameters() if one.requires_grad])
    wanted = times * n_learning + 2 * n_buffers + n_steps
    assert sum(one.numel() for one in tensors.values()) == wanted < n_frozen
    frozen = {name for name, one in task.model.named_parameters() if not one.requires_grad}
    assert not frozen & {name.partition(".")[2] for name in tensors}


def test_the_best_epoch_comes_back_and_frozen_weights_are_never_touched(
    shelf: tiny_models.Shelf,
) -> None:
    class Judged(Darkness):
        def validate(self) -> dict[str, float]:
            self.seen = [
                *getattr(self, "seen", []),
                {k: v.clone() for k, v in self.model.state_dict().items()},
            ]
            return {"figure": [0.1, 0.9, 0.2, 0.3][len(self.seen) - 1]}

    task = Judged(tower_of(shelf, "dinov2", by_lora("qv")))
    versions = {name: one._version for name, one in task.model.named_parameters() if not one.requires_grad}
    assert train(task, PARAMS).kept == 1
    best, last = task.seen[1], task.seen[3]
    found = task.model.state_dict()
    assert all(torch.equal(one, best[name]) for name, one in found.items())
    assert not all(torch.equal(one, last[name]) for name, one in found.items())
    # Torch counts each writing into a tensor: there was none.
    own = dict(task.model.named_parameters())
    assert versions and {name: own[name]._version for name in versions} == versions


def test_another_base_or_an_old_checkpoint_begins_anew_and_says_so(
    shelf: tiny_models.Shelf, tmp_path: Path
) -> None:
    def task() -> Darkness:
        return Darkness(tower_of(shelf, "dinov2", by_lora("qv")))

    def resumed(of: Darkness) -> tuple[int, list[str]]:
        notes: list[str] = []
        return train(of, PARAMS, checkpoint=tmp_path / "c", on_note=notes.append).resumed_at, notes

    train(task(), PARAMS, checkpoint=tmp_path / "c")
    assert resumed(task()) == (16, [])
    other = task()
    frozen = next(one for one in other.model.parameters() if not one.requires_grad)
    frozen.data.view(-1)[0] += 1e-3
    n_done, (note,) = resumed(other)
    assert n_done == 0 and "begins anew" in note and "another training: frozen weights" in note

    # As it was once written: with each weight of the model, under an identity that knew of none.
    ours = task()
    state, tensors = read_checkpoint(tmp_path / "c")
    told = json.dumps([ours.identity, PARAMS.model_dump(mode="json")], sort_keys=True)
    state.identity, state.settings = hashlib.sha256(told.encode()).hexdigest(), {}
    whole = {
        f"{part}.{name}": one for part in ("model", "best") for name, one in ours.model.state_dict().items()
    }
    write_checkpoint(tmp_path / "c", state, tensors | whole)
    n_done, (note,) = resumed(ours)
    assert n_done == 0 and "begins anew" in note and "another version" in note
