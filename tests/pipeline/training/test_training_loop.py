"""The loop against a plain one of torch's own parts, and against itself after an interruption."""

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from torch import nn
from training_toy import ALL_AT_ONCE, PARAMS, Pictures, Toy, same, weights

from deponij.pipeline.training import checkpoint
from deponij.pipeline.training.loop import Step, Training, train
from deponij.pipeline.training.task import ParameterGroup
from deponij.store.errors import DataError, StoreError, UsageError


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
    (note,) = notes
    assert "of another training: lr 0.02 there, 0.01 here. It is set aside as c.1 until" in note
    # where it is gone on with as before, and the next one goes beside it
    aside = train(Toy(seed=3), PARAMS, checkpoint=tmp_path / "c.1", on_note=notes.append)
    assert aside.resumed_at == 24 and len(notes) == 1
    third = PARAMS.model_copy(update={"epochs": 5, "betas": (0.8, 0.9), "clip_norm": 1.0, "seed": 9})
    train(Toy(dropout=0.1), third, checkpoint=tmp_path / "c", on_note=notes.append)
    assert "another training: data, model or loss" in notes[1] and "2 more" in notes[1]
    assert "epochs 4 there, 5 here" in notes[1] and "set aside as c.2" in notes[1]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["c", "c.1", "c.2"]


def test_what_is_of_another_training_stays_until_there_is_something_in_its_place(tmp_path: Path) -> None:
    train(Toy(), PARAMS, checkpoint=tmp_path / "c")
    other, broken = PARAMS.model_copy(update={"lr": 0.01}), Toy()
    broken.fail_at = (0, 0)
    with pytest.raises(RuntimeError, match="plug"):
        train(broken, other, checkpoint=tmp_path / "c", checkpoint_s=0)
    assert train(Toy(), PARAMS, checkpoint=tmp_path / "c").resumed_at == 24
    assert [one.name for one in tmp_path.iterdir()] == ["c"]


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
    assert steps[-1].remaining_s == 0 < steps[0].remaining_s and steps[-1].batches_per_s > 0
    assert steps[-1].lr == pytest.approx(PARAMS.lr_at(23, 24))
    assert len(told.history) == 4 and told.history[0].loss > told.history[-1].loss


def test_what_is_averaged_interrupted_and_in_another_memory_format(tmp_path: Path) -> None:
    whole, again = Pictures(), Pictures()
    told = train(whole, ALL_AT_ONCE)
    for at in ((0, 3), (1, 4), (3, 3)):
        again.fail_at = at
        with pytest.raises(RuntimeError, match="plug"):
            train(again, ALL_AT_ONCE, checkpoint=tmp_path / "c", checkpoint_s=0)
        again = Pictures(seed=at[1])
    after = train(again, ALL_AT_ONCE, checkpoint=tmp_path / "c", checkpoint_s=0)
    assert same(weights(whole), weights(again)) and after.history == told.history
    assert after.resumed_at == 20


def test_an_average_is_torchs_and_what_is_validated() -> None:
    params = PARAMS.model_copy(update={"average": 0.9, "schedule": "constant"})
    ours = Toy()
    told = train(ours, params)
    plain = Toy()
    step = torch.optim.AdamW(plain.model.parameters(), lr=0.02, weight_decay=0.01)
    mean = torch.optim.swa_utils.AveragedModel(
        plain.model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
    )
    mean.update_parameters(plain.model)  # torch's begins with its first weights, ours with those before
    for epoch in range(4):
        for batch in plain.batches(epoch):
            step.zero_grad()
            plain.loss(batch).backward()
            step.step()
            mean.update_parameters(plain.model)
    wanted = dict(mean.module.named_parameters())
    for name, one in ours.model.named_parameters():
        torch.testing.assert_close(one, wanted[name], rtol=1e-6, atol=1e-7)
    assert told.history[-1].figures == ours.validate()


def test_a_constant_rate_gives_the_bits_of_a_plain_loop() -> None:
    ours, plain = Toy(), Toy()
    train(ours, PARAMS.model_copy(update={"schedule": "constant"}))
    step = torch.optim.AdamW(plain.model.parameters(), lr=0.02, weight_decay=0.01)
    for epoch in range(4):
        for batch in plain.batches(epoch):
            step.zero_grad()
            plain.loss(batch).backward()
            step.step()
    assert same(weights(ours), weights(plain))


def test_a_small_network_learns() -> None:
    # x0 and the sum are linear, x1 * x2 is not: 0.15 of a variance of 5 / 3 needs all three to be learned
    toy = Toy(n_batches=40, size=64)
    toy.model = nn.Sequential(nn.Linear(5, 64), nn.ReLU(), nn.Linear(64, 3))
    train(toy, PARAMS.model_copy(update={"epochs": 15, "lr": 0.01}))
    assert toy.validate()["minus_loss"] > -0.15


@pytest.mark.parametrize(
    ("schedule", "of_torch"),
    [
        ("cosine", lambda step: torch.optim.lr_scheduler.CosineAnnealingLR(step, 50, 1e-4)),
        ("poly", lambda step: torch.optim.lr_scheduler.PolynomialLR(step, 50, 0.9)),
    ],
)
def test_a_schedule_is_torchs(schedule: str, of_torch: Any) -> None:
    params = PARAMS.model_copy(update={"schedule": schedule, "min_lr": 1e-4 if schedule == "cosine" else 0.0})
    step = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=params.lr)
    fall = of_torch(step)
    for number in range(50):
        assert params.lr_at(number, 50) == pytest.approx(step.param_groups[0]["lr"], rel=1e-9)
        step.step()
        fall.step()


def test_a_full_disk_is_told_once_and_the_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise StoreError("cannot write c: No space left on device")

    monkeypatch.setattr("deponij.pipeline.training.checkpoint.write_bundle", full)
    notes: list[str] = []
    ours, plain = Toy(), Toy()
    train(ours, PARAMS, checkpoint=tmp_path / "c", checkpoint_s=0, on_note=notes.append)
    train(plain, PARAMS)
    assert same(weights(ours), weights(plain))
    assert len(notes) == 1 and "No space left" in notes[0] and "goes on" in notes[0]


def test_a_checkpoint_within_the_last_step_of_an_epoch_keeps_its_rate(tmp_path: Path) -> None:
    class Cut(Toy):
        def validate(self) -> dict[str, float]:
            raise KeyboardInterrupt

    notes: list[str] = []
    whole = train(Toy(), PARAMS)
    with pytest.raises(KeyboardInterrupt):
        train(Cut(), PARAMS, checkpoint=tmp_path / "c", on_note=notes.append)
    assert len(notes) == 1 and "after 6 of 24 batches" in notes[0] and str(tmp_path / "c") in notes[0]
    again = train(Toy(seed=7), PARAMS, checkpoint=tmp_path / "c")
    assert again.resumed_at == 6 and again.history == whole.history


def test_figures_that_are_no_numbers_are_never_the_best(tmp_path: Path) -> None:
    class Judged(Toy):
        def validate(self) -> dict[str, float]:
            self.n = getattr(self, "n", -1) + 1
            return {"figure": [math.nan, 0.2, math.inf, 0.1][self.n]}

    best = PARAMS.model_copy(update={"keep": "best"})
    assert train(Judged(), best, checkpoint=tmp_path / "c").kept == 1
    notes: list[str] = []
    again = train(Judged(), best, checkpoint=tmp_path / "c", on_note=notes.append)
    assert notes == [] and again.kept == 1 and math.isnan(again.history[0].figures["figure"])


def test_short_epochs_do_not_each_wait_for_a_slow_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_written = 0
    write = checkpoint.write_bundle

    def slow(*arguments: Any, **named: Any) -> None:
        nonlocal n_written
        n_written += 1
        time.sleep(0.02)
        write(*arguments, **named)

    monkeypatch.setattr(checkpoint, "write_bundle", slow)
    # 0.02 s must be less than so much of the time: 20 s, or the 60 s of within an epoch
    monkeypatch.setattr("deponij.pipeline.training.loop._CHECKPOINTS_SHARE", 0.001)
    first, second = Toy(), Toy(seed=4)
    train(first, PARAMS, checkpoint=tmp_path / "c")
    # after the first epoch, when the cost is not known, and at the end
    assert n_written == 2
    train(second, PARAMS, checkpoint=tmp_path / "c")
    assert same(weights(first), weights(second))


def test_tied_weights_have_a_checkpoint(tmp_path: Path) -> None:
    def tied(seed: int = 0) -> Toy:
        toy = Toy(seed=seed)
        first, second = nn.Linear(5, 5), nn.Linear(5, 5)
        second.weight = first.weight
        toy.model = nn.Sequential(first, nn.ReLU(), second, nn.Linear(5, 3))
        return toy

    first = tied()
    train(first, PARAMS, checkpoint=tmp_path / "c")
    second = tied(3)
    train(second, PARAMS, checkpoint=tmp_path / "c")
    assert same(weights(first), weights(second))


def test_too_little_memory_says_what_to_lower() -> None:
    toy = Toy()

    def loss(batch: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    toy.loss = loss  # type: ignore[method-assign]
    with pytest.raises(UsageError, match=r"batch_size \(8\) or raise pieces \(1\), or take"):
        train(toy, PARAMS)
    # Of captions, which are told apart within a batch.
    toy.accumulates = False
    with pytest.raises(UsageError, match=r"batch_size \(8\), or take smaller pictures"):
        train(toy, PARAMS)


def test_too_few_batches_are_an_error() -> None:
    toy = Toy()
    toy.batches = lambda epoch, first=0: iter(())  # type: ignore[method-assign]
    with pytest.raises(DataError, match="epoch 1 has 0 batches instead of 6"):
        train(toy, PARAMS)
    with pytest.raises(UsageError, match="no batches"):
        train(Toy(n_batches=0), PARAMS)


def test_an_accelerator_of_the_callers_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.chdir(tmp_path)
    told, plain = Toy(), Toy()
    train(told, PARAMS)
    monkeypatch.delenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS")
    own = accelerate.Accelerator(cpu=True, mixed_precision="bf16")
    before = dict(os.environ)
    train(plain, PARAMS)
    assert same(weights(told), weights(plain))
    assert own.mixed_precision == "bf16" and accelerate.state.AcceleratorState().mixed_precision == "bf16"
    assert dict(os.environ) == before and list(tmp_path.iterdir()) == []


def test_waiting_for_data_is_told_apart_from_computing() -> None:
    class Slow(Toy):
        def batches(self, epoch: int, first: int = 0) -> Iterator[Any]:
            for batch in super().batches(epoch, first):
                time.sleep(0.01)
                yield batch

    told = train(Slow(), PARAMS)
    # 24 sleeps, of which none may be shorter
    assert told.waited_s >= 0.24 and told.computed_s > 0
    assert told.waited_s + told.computed_s <= told.seconds


def test_epochs_are_told_to_a_tracker() -> None:
    seen: list[tuple[int, float]] = []
    told = train(Toy(), PARAMS, on_epoch=lambda epoch, record: seen.append((epoch, record.loss)))
    assert seen == list(enumerate(one.loss for one in told.history))
    assert [one.lr for one in told.history] == [PARAMS.lr_at(step, 24) for step in (5, 11, 17, 23)]


def test_schedules() -> None:
    poly = PARAMS.model_copy(update={"schedule": "poly", "min_lr": 0.0})
    assert poly.lr_at(5, 10) == pytest.approx(0.02 * 0.5**0.9)
    assert PARAMS.model_copy(update={"schedule": "constant"}).lr_at(9, 10) == 0.02
    rising = PARAMS.model_copy(update={"schedule": "constant", "warmup_epochs": 2.0})
    # two of four epochs are ten of twenty steps
    assert [rising.lr_at(step, 20) for step in (0, 4, 9, 10)] == pytest.approx([0.002, 0.01, 0.02, 0.02])
