"""What a recipe says reaches what is trained: sampling, weights of classes, rates, checkpointing, the average."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cli_world
import numpy as np
import pytest
import tiny_models
import torch

from deponij.pipeline.tuning.losses import soft_cross_entropy
from deponij.pipeline.tuning.sampling import class_weights, epoch_indices
from deponij.project.frame.settings import RunOptions
from deponij.project.tuning import begun as tuning
from deponij.project.tuning.begun import Begun, Job, Running, begin, trained
from deponij.project.tuning.params import Recipe

Make = Callable[..., Begun]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """A tuning that can train, of these settings: pictures of three colours, of one of which there are fewer."""
    root = tmp_path_factory.mktemp("recipe")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPONIJ_CACHE", str(root / "cache"))
        tiny_models.dinov2(root / "base")
        cli_world.class_folders(root / "pictures")
        for path in sorted((root / "pictures" / "cup").iterdir())[3:]:
            path.unlink()
        items, split = root / "items", root / "split.parquet"
        cli_world.done("items", "--folder", root / "pictures", "--out", items)
        cli_world.done("split", "--items", items, "--strategy", "random", "--out", split)

        def made(training: dict[str, Any] | None = None, **recipe: Any) -> Begun:
            short = {"epochs": 2, "batch_size": 4, "lr": 0.01} | (training or {})
            given = {"backbone": "base", "start": "plain", "augment": "none", "training": short} | recipe
            where = {"spec": str(root / "base"), "items": items, "split": split, "labels": "label"}
            job = Job(name="tuned", recipe=Recipe.model_validate(given), **where)
            options = RunOptions(depot=str(root / "depot"), device="cpu", threads=1)
            return begin(job, Running(options, root / "unfinished"))

        yield made


def test_batches_of_an_epoch_differ_by_one_picture(make: Make) -> None:
    """Where the last one had what was left over, it could be a single picture, which a batch norm cannot learn from."""
    task: Any = make().made.task
    n = len(task.rows)
    task.batch_size = n - 1
    batches = [len(pixels) for pixels, *_ in task.batches(0)]
    assert batches == [-(-n // 2), n // 2] and task.n_batches() == 2
    assert sorted(place for places in task._plan(0) for place in places) == list(range(n))


@pytest.mark.parametrize("power", [0.0, 1.0])
def test_balance_draws_the_pictures(make: Make, power: float) -> None:
    task: Any = make(balance=power).made.task
    seen = np.concatenate(task._plan(1))
    assert seen.tolist() == epoch_indices(task.targets, seed=0, epoch=1, power=power).tolist()
    assert (len(set(seen.tolist())) == len(task.rows)) == (power == 0)


def test_weights_of_classes_are_those_of_what_is_learned_from(make: Make) -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    truth = torch.nn.functional.one_hot(torch.tensor([0, 1, 2, 1, 0]), 3).float()
    plain: Any = make().made.task
    weighted: Any = make(class_weights=0.5).made.task
    weights = torch.from_numpy(class_weights(weighted.targets, 3, power=0.5))
    assert len(set(weights.tolist())) > 1, "the world shows something"
    assert torch.equal(weighted.loss_of(logits, truth, None), soft_cross_entropy(logits, truth, weights))
    assert torch.equal(plain.loss_of(logits, truth, None), soft_cross_entropy(logits, truth))


def test_rates_fall_with_depth_and_the_classifier_has_its_own(make: Make) -> None:
    def factors(**recipe: Any) -> tuple[set[float], set[float]]:
        task: Any = make(recipe="full", **recipe).made.task
        head = {id(one) for one in task.model.heads.parameters()}
        groups = task.groups()
        of_head = {one.lr_factor for one in groups if {id(each) for each in one.parameters} <= head}
        return {one.lr_factor for one in groups} - of_head, of_head

    assert factors() == ({1.0}, {1.0}) or factors() == (set(), {1.0})
    tower, head = factors(layer_decay=0.5, head_lr=10.0)
    assert head == {10.0} and {1.0, 0.5, 0.25} <= tower


@pytest.mark.parametrize("checkpointing", [False, True])
def test_checkpointing_is_of_the_tower(
    make: Make, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    real = torch.utils.checkpoint.checkpoint
    for module in ("torch.utils.checkpoint", "transformers.modeling_utils"):
        monkeypatch.setattr(f"{module}.checkpoint", lambda *a, **k: calls.append(1) or real(*a, **k))
    task: Any = make(checkpointing=checkpointing).made.task
    task.model.train()
    task.loss(next(iter(task.batches(0)))).backward()
    assert bool(calls) is checkpointing


def test_the_average_is_what_is_kept(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a decay near 1 what comes out is what it began with."""
    notes: list[str] = []
    monkeypatch.setattr(tuning, "note", notes.append)

    def moved(**training: Any) -> float:
        begun = make(training)
        begun.made.task.model.train(False)
        before = {name: one.detach().clone() for name, one in begun.made.task.model.named_parameters()}
        running = Running(RunOptions(device="cpu", threads=1), Path("none"))
        monkeypatch.setattr(Running, "checkpoint", None)
        trained("tuned", begun.made.task, begun.training, running, "cpu")
        after = begun.made.task.model.named_parameters()
        return max((one - before[name]).abs().max().item() for name, one in after)

    plain, averaged = moved(), moved(average=0.9999)
    assert 0 < averaged < 0.01 * plain
    assert "average: 0.9999 is slow" in notes[-1]
