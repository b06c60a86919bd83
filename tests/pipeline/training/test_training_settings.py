"""Restarts, deterministic operations, and what is said of a loss that is no number."""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from training_toy import PARAMS, Toy, same, weights

from deponij.pipeline.training.checkpoint import read_checkpoint
from deponij.pipeline.training.loop import train
from deponij.pipeline.training.params import TrainingParams
from deponij.store.errors import DataError, UsageError


def test_restarts_are_torchs() -> None:
    params = PARAMS.model_copy(update={"cycles": 5})
    step = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=params.lr)
    fall = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(step, T_0=10, eta_min=params.min_lr)
    for number in range(50):
        assert params.lr_at(number, 50) == pytest.approx(step.param_groups[0]["lr"], rel=1e-9)
        step.step()
        fall.step()
    assert [number for number in range(50) if params.lr_at(number, 50) == params.lr] == [0, 10, 20, 30, 40]


def test_cycles_that_are_no_whole_steps_begin_at_the_next() -> None:
    """Of 10 steps three falls of 3 1/3: at steps 4 and 7 they are 2/3 and 1/3 of a step old."""
    params = TrainingParams(cycles=3, lr=1.0)
    ages = [math.acos(2 * params.lr_at(step, 10) - 1) / math.pi * 10 / 3 for step in (3, 4, 7)]
    assert ages == pytest.approx([3, 2 / 3, 1 / 3])


def test_only_cosine_restarts() -> None:
    with pytest.raises(ValidationError, match="cycles: 2 is for schedule: cosine, not poly"):
        TrainingParams(cycles=2, schedule="poly")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"betas": (0.9, 1.0)}, "betas.1\n  Input should be less than 1"),
        ({"betas": (-0.1, 0.9)}, "betas.0\n  Input should be greater than or equal to 0"),
        ({"betas": (math.nan, 0.9)}, "betas.0"),
        ({"lr": 1e-3, "min_lr": 1e-2}, "min_lr: 0.01 is where lr: 0.001 falls to"),
        ({"epochs": 2, "warmup_epochs": 2.5}, "warmup_epochs: 2.5 are more than epochs: 2"),
        ({"clip_norm": math.inf}, "clip_norm"),
    ],
)
def test_what_no_training_can_have_is_told(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TrainingParams(**given)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_cpu_says_that_it_computes_in_fp32(tmp_path: Path, precision: str) -> None:
    """And it is the same training: one goes on with the other's checkpoint."""
    notes: list[str] = []
    wide, narrow = Toy(), Toy()
    train(wide, PARAMS)
    params = PARAMS.model_copy(update={"precision": precision})
    train(narrow, params, checkpoint=tmp_path / "c", on_note=notes.append)
    assert same(weights(wide), weights(narrow))
    assert notes == [f"precision: {precision} is of a GPU; on cpu the training computes in fp32"]
    assert train(Toy(), PARAMS, checkpoint=tmp_path / "c", on_note=notes.append).resumed_at == 24
    assert len(notes) == 1


def test_an_average_that_stays_with_the_first_weights_is_told() -> None:
    notes: list[str] = []
    train(Toy(), PARAMS.model_copy(update={"average": 0.97}), on_note=notes.append)  # 0.48 of 24 steps
    assert not notes
    train(Toy(), PARAMS.model_copy(update={"average": 0.99996}), on_note=notes.append)
    assert len(notes) == 1 and "average: 0.99996 is slow for the 24 steps" in notes[0] and "99.9" in notes[0]


def test_deterministic_holds_within_the_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    seen: list[tuple[bool, str | None]] = []

    class Watched(Toy):
        def loss(self, batch: Any) -> Tensor:
            seen.append(
                (torch.are_deterministic_algorithms_enabled(), os.environ.get("CUBLAS_WORKSPACE_CONFIG"))
            )
            return super().loss(batch)

    params = PARAMS.model_copy(update={"deterministic": True})
    plain = Toy()
    train(plain, PARAMS)
    watched = Watched()
    train(watched, params)
    assert set(seen) == {(True, ":4096:8")} and same(weights(plain), weights(watched))
    assert not torch.are_deterministic_algorithms_enabled() and "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    broken = Watched()
    broken.fail_at = (0, 1)
    with pytest.raises(RuntimeError, match="plug"):
        train(broken, params)
    assert not torch.are_deterministic_algorithms_enabled()
    seen.clear()
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        train(Watched(), params)
        assert set(seen) == {(True, ":16:8")} and torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_an_operation_that_cannot_be_deterministic_is_named() -> None:
    """torch's documentation of `use_deterministic_algorithms` lists `put_` that does not accumulate."""

    class Putting(Toy):
        def loss(self, batch: Any) -> Tensor:
            torch.zeros(3).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))
            return super().loss(batch)

    train(Putting(), PARAMS)
    with pytest.raises(UsageError, match="deterministic: true cannot be kept: put_"):
        train(Putting(), PARAMS.model_copy(update={"deterministic": True}))


class Breaking(Toy):
    """Whose data is no number in one batch."""

    at = (2, 3)

    def batches(self, epoch: int, first: int = 0) -> Iterator[Any]:
        for number, (x, y) in enumerate(super().batches(epoch, first), first):
            yield [x * math.nan if (epoch, number) == self.at else x, y]


@pytest.mark.parametrize(
    ("checkpoint_s", "place", "state"),
    [(0, "epoch 3, batch 3 of 6", (2, 3)), (1e6, "the end of epoch", None)],
)
def test_a_loss_that_is_no_number_names_the_last_good_checkpoint(
    tmp_path: Path, checkpoint_s: float, place: str, state: tuple[int, int] | None
) -> None:
    folder = tmp_path / "c"
    with pytest.raises(DataError) as raised:
        train(Breaking(), PARAMS, checkpoint=folder, checkpoint_s=checkpoint_s)
    assert "epoch 3, batch 4" in str(raised.value) and f"that of {place}" in str(raised.value)
    assert str(folder) in str(raised.value)
    kept, tensors = read_checkpoint(folder)
    assert state is None or (kept.epoch, kept.batch) == state
    assert all(one.isfinite().all() for one in tensors.values() if one.is_floating_point())
    # gone on with, it names the one that it went on from
    with pytest.raises(DataError, match="last good checkpoint is that of"):
        train(Breaking(), PARAMS, checkpoint=folder, checkpoint_s=1e6)


def test_without_a_checkpoint_none_is_named() -> None:
    with pytest.raises(DataError) as raised:
        train(Breaking(), PARAMS)
    assert "checkpoint" not in str(raised.value)


def test_weights_that_are_no_numbers_replace_no_checkpoint(tmp_path: Path) -> None:
    """The gradient of a root is infinite at 0 while the loss itself is finite."""

    class Root(Toy):
        def loss(self, batch: Any) -> Tensor:
            self.n = getattr(self, "n", 0) + 1
            kept = super().loss(batch)
            return kept + (self.model[4].bias * 0).sum().sqrt() if self.n == 9 else kept

    with pytest.raises(DataError, match="epoch 2, batch 4.*epoch 2, batch 2 of 6"):
        train(Root(), PARAMS, checkpoint=tmp_path / "c", checkpoint_s=0)
    _, tensors = read_checkpoint(tmp_path / "c")
    assert all(one.isfinite().all() for one in tensors.values() if one.is_floating_point())
