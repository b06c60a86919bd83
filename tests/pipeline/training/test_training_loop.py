"""The loop against a plain one of torch's own parts, and against itself after an interruption."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deponij.pipeline.training.loop import Step, Training, train
from deponij.pipeline.training.params import TrainingParams
from deponij.pipeline.training.task import ParameterGroup
from deponij.store.errors import DataError, UsageError


class Toy:
    """Regression of three numbers by a small network with dropout."""

    def __init__(self, *, dropout: float = 0.0, n_batches: int = 6, size: int = 8, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.model: nn.Module = nn.Sequential(
            nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Dropout(dropout), nn.Linear(7, 3)
        )
        self.identity = f"toy {dropout} {n_batches} {size}"
        self.size, self._n = size, n_batches
        self.figures: list[float] = []
        self.fail_at: tuple[int, int] | None = None
        self.scale = 1.0

    def groups(self) -> list[ParameterGroup]:
        return [ParameterGroup(list(self.model.parameters()))]

    def n_batches(self) -> int:
        return self._n

    def batches(self, epoch: int, first: int = 0) -> Iterator[Any]:
        for number in range(first, self._n):
            if self.fail_at == (epoch, number):
                raise RuntimeError("pulled the plug")
            made = torch.Generator().manual_seed(1000 * epoch + number)
            x = torch.randn(self.size, 5, generator=made)
            yield [x, torch.stack([x[:, 0], x[:, 1] * x[:, 2], x.sum(1)], dim=1)]

    def loss(self, batch: Any) -> Tensor:
        x, y = batch
        return nn.functional.mse_loss(self.model(x), y) * self.scale

    def validate(self) -> dict[str, float]:
        x, y = next(self.batches(10**6))
        with torch.no_grad():
            return {"minus_loss": -float(nn.functional.mse_loss(self.model(x), y))}


PARAMS = TrainingParams(epochs=4, batch_size=8, lr=0.02, min_lr=1e-4, weight_decay=0.01, keep="last")


def weights(toy: Toy) -> list[Tensor]:
    return [one.detach().clone() for one in toy.model.state_dict().values()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_the_weights_are_those_of_a_plain_loop(optimizer: str) -> None:
    ours = Toy()
    train(ours, PARAMS.model_copy(update={"optimizer": optimizer, "clip_norm": 0.5}))
    plain = Toy()
    made: dict[str, Any] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    more = {"momentum": 0.9} if optimizer == "sgd" else {}
    step = made[optimizer](plain.model.parameters(), lr=0.02, weight_decay=0.01, **more)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(step, 4 * 6, 1e-4)
    for epoch in range(4):
        for batch in plain.batches(epoch):
            step.zero_grad()
            plain.loss(batch).backward()
            nn.utils.clip_grad_norm_(plain.model.parameters(), 0.5)
            step.step()
            fall.step()
    for a, b in zip(weights(ours), weights(plain), strict=True):
        # torch's scheduler multiplies its rates up, ours is the closed form
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_two_halves_accumulated_are_one_batch() -> None:
    class Halves(Toy):
        def batches(self, epoch: int, first: int = 0) -> Iterator[Any]:
            whole = [
                half for x, y in super().batches(epoch) for half in zip(x.chunk(2), y.chunk(2), strict=True)
            ]
            yield from (list(one) for one in whole[first:])

    plain = Toy()
    halves = Halves(n_batches=6)
    # a batch norm would see other batches
    plain.model[1] = halves.model[1] = nn.Identity()
    train(plain, PARAMS)
    halves.n_batches = lambda: 12  # type: ignore[method-assign]
    train(halves, PARAMS.model_copy(update={"accumulate": 2}))
    for a, b in zip(weights(plain), weights(halves), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("at", [(0, 3), (1, 0), (2, 5), (3, 1)])
@pytest.mark.parametrize("keep", ["best", "last"])
def test_an_interrupted_training_comes_to_the_same_bytes(
    tmp_path: Path, at: tuple[int, int], keep: str
) -> None:
    params = PARAMS.model_copy(update={"keep": keep, "accumulate": 2})
    whole = Toy(dropout=0.3)
    told = train(whole, params)
    broken = Toy(dropout=0.3)
    broken.fail_at = at
    with pytest.raises(RuntimeError, match="plug"):
        train(broken, params, checkpoint=tmp_path / "c", checkpoint_s=0)
    again = Toy(dropout=0.3, seed=99)  # what it begins with comes from the checkpoint, if there is one
    if not (tmp_path / "c").exists():
        again = Toy(dropout=0.3)
    after = train(again, params, checkpoint=tmp_path / "c", checkpoint_s=0)
    assert same(weights(whole), weights(again))
    assert after.history == told.history and after.kept == told.kept
    # only whole steps are gone on from: of two batches each
    assert after.resumed_at in {at[0] * 6 + at[1] // 2 * 2}


def test_a_finished_checkpoint_only_gives_its_weights(tmp_path: Path) -> None:
    first = Toy()
    train(first, PARAMS, checkpoint=tmp_path / "c")
    second = Toy(seed=5)
    steps: list[Step] = []
    told = train(second, PARAMS, checkpoint=tmp_path / "c", on_step=steps.append)
    assert same(weights(first), weights(second))
    assert steps == [] and told.resumed_at == 24


def test_another_trainings_checkpoint_is_said_and_left(tmp_path: Path) -> None:
    train(Toy(), PARAMS, checkpoint=tmp_path / "c")
    notes: list[str] = []
    fresh, again = Toy(), Toy()
    other = PARAMS.model_copy(update={"lr": 0.01})
    train(fresh, other)
    train(again, other, checkpoint=tmp_path / "c", on_note=notes.append)
    assert same(weights(fresh), weights(again))
    assert len(notes) == 1 and "other settings" in notes[0]


def test_a_damaged_checkpoint_is_said_and_left(tmp_path: Path) -> None:
    train(Toy(), PARAMS, checkpoint=tmp_path / "c")
    path = tmp_path / "c" / "training.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    notes: list[str] = []
    fresh, again = Toy(), Toy()
    train(fresh, PARAMS)
    train(again, PARAMS, checkpoint=tmp_path / "c", on_note=notes.append)
    assert same(weights(fresh), weights(again)) and "damaged" in notes[0]


def test_best_keeps_the_epoch_with_the_largest_figure() -> None:
    class Judged(Toy):
        def validate(self) -> dict[str, float]:
            self.seen = [*getattr(self, "seen", []), weights(self)]
            return {"figure": [0.1, 0.9, 0.9, 0.3][len(self.seen) - 1]}

    toy = Judged()
    told = train(toy, PARAMS.model_copy(update={"keep": "best"}))
    assert told.kept == 1 and same(weights(toy), toy.seen[1])
    early = Judged()
    told = train(early, PARAMS.model_copy(update={"keep": "best", "patience": 1}))
    assert (told.kept, len(told.history)) == (1, 3)


def test_a_loss_that_is_no_number_stops_with_its_place() -> None:
    toy = Toy()
    toy.scale = math.inf
    with pytest.raises(DataError, match="epoch 1, batch 1"):
        train(toy, PARAMS)


def test_nothing_to_learn_is_an_error() -> None:
    toy = Toy()
    toy.groups = lambda: [ParameterGroup([])]  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="nothing"):
        train(toy, PARAMS)


def test_groups_learn_at_their_own_rates() -> None:
    toy = Toy()
    before = weights(toy)
    slow, fast = list(toy.model[0].parameters()), list(toy.model[4].parameters())
    toy.groups = lambda: [ParameterGroup(slow, 0.0, 0.0), ParameterGroup(fast)]  # type: ignore[method-assign]
    train(toy, PARAMS)
    after = weights(toy)
    assert torch.equal(before[0], after[0]) and not torch.equal(before[-2], after[-2])


def test_the_callers_generator_and_threads_are_left_alone() -> None:
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    toy = Toy.__new__(Toy)
    with torch.random.fork_rng():
        Toy.__init__(toy, dropout=0.5)
    threads = torch.get_num_threads()
    train(toy, PARAMS, n_threads=1)
    assert torch.equal(torch.rand(2), wanted) and torch.get_num_threads() == threads


def test_progress_counts_to_the_end() -> None:
    steps: list[Step] = []
    told: Training = train(Toy(), PARAMS, on_step=steps.append)
    assert [one.done for one in steps] == list(range(1, 25)) and {one.total for one in steps} == {24}
    assert steps[-1].lr == pytest.approx(PARAMS.lr_at(23, 24))
    assert len(told.history) == 4 and told.history[0].loss > told.history[-1].loss


def test_schedules() -> None:
    poly = PARAMS.model_copy(update={"schedule": "poly", "min_lr": 0.0})
    assert poly.lr_at(5, 10) == pytest.approx(0.02 * 0.5**0.9)
    assert PARAMS.model_copy(update={"schedule": "constant"}).lr_at(9, 10) == 0.02
    rising = PARAMS.model_copy(update={"schedule": "constant", "warmup_epochs": 2.0})
    # two of four epochs are ten of twenty steps
    assert [rising.lr_at(step, 20) for step in (0, 4, 9, 10)] == pytest.approx([0.002, 0.01, 0.02, 0.02])
