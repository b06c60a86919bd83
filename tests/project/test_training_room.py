"""What is told of a training before it begins."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from captions_toy import task_of

from deponij.pipeline.training.estimate import Tried
from deponij.pipeline.training.params import TrainingParams
from deponij.project.frame.settings import RunOptions
from deponij.project.tuning import learn
from deponij.project.tuning import task as tasks
from deponij.project.tuning.begun import Running
from deponij.project.tuning.pictures import Pictures
from deponij.project.tuning.room import training_room
from deponij.store.errors import UsageError

GB = 10**9
# Half a gigabyte a picture of the batch, and 0.5 GB that is kept.
TRIED = (
    Tried(2, 3.0, GB // 2, 0, 3 * GB // 2),
    Tried(4, 2.0, GB // 2, 0, 5 * GB // 2),
)


def test_what_does_not_fit_is_computed_in_pieces_and_told() -> None:
    room = training_room(TRIED, 62, 24 * GB, 734)
    # 62 is 31 twice: 16 GB.
    assert (room.batch_size, room.pieces, room.needed_bytes) == (31, 2, 31 * GB + GB // 2)
    assert str(room) == (
        "batch 62 would need about 31.5 GB of the 24.0 GB that are free: it is computed in 2 pieces of 31; "
        "about 12 min 14 s an epoch"
    )


def test_what_fits_is_told() -> None:
    assert str(training_room(TRIED, 4, 24 * GB, 20)) == (
        "batch 4 needs about 2.5 GB of the 24.0 GB that are free; about 20 s an epoch"
    )


def test_where_the_device_does_not_tell_all_fits() -> None:
    assert str(training_room(TRIED, 64, None, 20)) == "batch 64 needs about 32.5 GB; about 20 s an epoch"


def test_nothing_fits() -> None:
    with pytest.raises(UsageError, match="a single picture needs"):
        training_room(TRIED, 64, GB // 10, 20)


def test_a_part_of_a_batch_is_what_must_fit() -> None:
    """Of 31 pictures by two processes each has 16 at most: 8.5 GB."""
    assert str(training_room(TRIED, 31, 9 * GB, 20, 2)) == (
        "batch 31 in 2 parts needs about 8.5 GB of the 9.0 GB that are free; about 20 s an epoch"
    )
    room = training_room(TRIED, 31, 5 * GB, 20, 2)
    assert (room.batch_size, room.pieces) == (8, 2)
    assert str(room).startswith(
        "batch 31 in 2 parts would need about 8.5 GB of the 5.0 GB that are free: it is"
    )


@pytest.mark.parametrize(
    ("processes", "device", "sizes", "pieces", "asked", "epoch_s"),
    [
        # 64 need 32.5 GB: a quarter of them, 16, fits into 9 GB; also of those that validation asks for at once.
        (1, "cpu", [8, 16], 4, 16, 80.0),
        # Two on a CPU have half of it each, for half of the batch: 8 pictures.
        (2, "cpu", [4, 8], 4, 8, 80.0),
        # Two GPUs have 9 GB each, and are through in half the time.
        (2, "cuda", [4, 8], 2, 16, 40.0),
    ],
)
def test_what_is_tried_is_what_each_process_computes(
    monkeypatch: pytest.MonkeyPatch,
    processes: int,
    device: str,
    sizes: list[int],
    pieces: int,
    asked: int,
    epoch_s: float,
) -> None:
    tried: list[list[int]] = []
    said: list[str] = []

    def trial(task: Any, stand_in: Any, sizes: list[int], *_: Any, **__: Any) -> tuple[Tried, ...]:
        tried.append(sizes)
        return TRIED

    monkeypatch.setattr(learn, "trial", trial)
    monkeypatch.setattr(learn, "free_memory_bytes", lambda device: 9 * GB)
    monkeypatch.setattr(learn, "say", said.append)
    task: Any = SimpleNamespace(asked=64, accumulates=True, stand_in=None, epoch_s=lambda step_s, n: 80.0)
    running = Running(RunOptions(processes=processes, device=device), Path("unfinished"))
    found = learn._fitted(task, TrainingParams(batch_size=64), device, running)
    assert (tried, found.pieces, task.asked) == ([sizes], pieces, asked)
    assert found.batch_size == 64 and found.accumulate == 1
    assert said[0].endswith(
        f"about {epoch_s:.0f} s an epoch" if epoch_s < 60 else "about 1 min 20 s an epoch"
    )


def test_an_epoch_takes_its_steps_its_pictures_and_its_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take 10 ms to be read and 20 ms to be looked at, by a clock that nothing else moves."""
    clock = [0.0]
    monkeypatch.setattr(tasks, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def takes(seconds: float) -> None:
        clock[0] += seconds

    class Slow(Pictures):
        def read(self, rows: list[int]) -> Any:
            takes(0.01 * len(rows))
            return super().read(rows)

    task = task_of([0, 1] * 8, [0, 1] * 3, torch.eye(3))
    pixels = np.zeros((16, 4, 4, 3), np.uint8)
    task.pictures = Slow(pixels, {row: row for row in range(16)}, {})
    look = task.model.forward
    task.model.forward = lambda pixels: (takes(0.02 * len(pixels)), look(pixels))[1]  # type: ignore[method-assign]
    task.model.train()
    steps_s, read_s, judged_s = 16 * 0.05, 16 * 0.01, 6 * (0.01 + 0.02)
    assert task.epoch_s(0.05, 4) == pytest.approx(steps_s + read_s + judged_s)
    assert task.model.training
    # Two workers read during a step: what takes longer counts.
    task.workers = 2
    assert task.epoch_s(0.001, 4) == pytest.approx(read_s / 2 + judged_s)


def test_validation_asks_for_no_more_at_once_than_fits() -> None:
    seen: list[int] = []
    task = task_of([0, 1], [0, 1, 2, 1, 0], torch.eye(3))
    look = task.model.forward
    task.model.forward = lambda pixels: (seen.append(len(pixels)), look(pixels))[1]  # type: ignore[method-assign]
    whole = task.validate()
    task.asked = 2
    assert task.validate() == whole
    assert seen == [5, 2, 2, 1]
