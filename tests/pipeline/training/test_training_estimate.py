"""What a training takes: sums against hand-computed ones, counts against what a process is seen to take."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import training_takes
from torch import nn
from training_takes import PARAMS, Classify
from training_toy import Toy

from deponij.pipeline.training import estimate
from deponij.pipeline.training.estimate import Tried, fitting, needed_bytes, trial
from deponij.pipeline.training.living import Living
from deponij.pipeline.training.params import TrainingParams
from deponij.store.errors import UsageError

GB = 10**9


def test_a_batch_is_halved_until_it_fits() -> None:
    def needed(batch: int) -> int:
        asked.append(batch)
        return GB + batch * GB // 2

    asked: list[int] = []
    assert fitting(64, needed, 33 * GB) == (64, 1)
    # 64, 32 and 16 pictures need 33, 17 and 9 GB.
    assert fitting(64, needed, 16 * GB) == (16, 4)
    assert asked == [64, 64, 32, 16]
    assert fitting(64, needed, 3 * GB // 2) == (1, 64)


@pytest.mark.parametrize(
    ("asked", "most", "found"),
    [(10, 6, (5, 2)), (10, 4, (3, 4)), (7, 6, (4, 2)), (12, 5, (3, 4)), (12, 2, (2, 6)), (1, 1, (1, 1))],
)
def test_pieces_are_halves_of_halves_to_within_one_picture(
    asked: int, most: int, found: tuple[int, int]
) -> None:
    assert fitting(asked, lambda batch: batch, most) == found


def test_a_single_picture_that_does_not_fit_is_told() -> None:
    with pytest.raises(UsageError, match=r"a single picture needs 3\.0 GB and 2\.5 GB are free"):
        fitting(8, lambda batch: 3 * GB * batch, 5 * GB // 2)


def test_what_another_batch_needs() -> None:
    four = Tried(4, 0.1, kept_bytes=100, gradient_bytes=50, peak_bytes=350)
    # 250 live: all of them grow (500 beside the 100), or the 50 stay and 200 shrink to a half or a quarter.
    assert needed_bytes([four], 4) == 350
    assert needed_bytes([four], 8) == 600
    assert needed_bytes([four], 2) == 100 + 50 + 100
    assert needed_bytes([four], 1) == 100 + 50 + 50
    # By a line, 30 a picture.
    six = Tried(6, 0.1, kept_bytes=100, gradient_bytes=50, peak_bytes=410)
    assert [needed_bytes([four, six], batch) for batch in (4, 6, 7, 16)] == [350, 410, 440, 710]
    # Between two by the larger one, below both by the smaller one.
    assert needed_bytes([four, six], 5) == 410 - 260 // 6 - 1
    assert needed_bytes([four, six], 2) == 250
    # Where less lives than gradients are, nothing shrinks.
    assert needed_bytes([Tried(4, 0.1, 100, 50, 140)], 1) == 140


def test_what_lives_at_once_is_counted_and_goes_again() -> None:
    given = torch.zeros(1000)
    with Living() as living:
        one = given + 1
        two = one * 2
        assert living.n_bytes == 8000
        one = two[:10]
        two.add_(1)
        assert living.n_bytes == 4000
        del one, two
    assert (living.n_bytes, living.most_bytes) == (0, 8000)


def test_bytes_of_a_step_are_those_that_a_hand_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "_HEAP", 1.0)
    toy = Toy()
    toy.model = nn.Sequential(nn.Linear(5, 1000, bias=False), nn.ReLU(), nn.Linear(1000, 3, bias=False))
    params = TrainingParams(keep="last", optimizer="sgd", betas=(0.9, 0.999))
    small, large = trial(toy, _batch_of(toy), [64, 8], params)
    weights = 4 * (5 * 1000 + 1000 * 3)
    assert (small.kept_bytes, small.gradient_bytes) == (weights, weights), "a momentum and a gradient each"
    # Backward through the ReLU: its output is kept, what comes in and goes out of it lives, and the last layer's gradient.
    arrays = 4 * 64 * 1000
    assert large.peak_bytes - weights == pytest.approx(3 * arrays + 4 * 3000, rel=0.01)
    assert small.batch_size == 8 and large.batch_size == 64 and large.picture_s > 0


def test_kept_beside_the_weights_are_the_average_and_the_best_epoch() -> None:
    toy = Toy()
    learning = 4 * sum(one.numel() for one in toy.model.parameters())
    state = learning + 4 * 14 + 8  # the batch norm's two rows of seven, and its count of batches
    sgd: dict[str, Any] = {"optimizer": "sgd"}

    def kept(**more: Any) -> int:
        return trial(toy, _batch_of(toy), [4], TrainingParams(**{"keep": "last"} | sgd | more))[0].kept_bytes

    assert kept() == learning
    assert kept(average=0.9) == 2 * learning
    assert kept(keep="best") == learning + state
    # Adam remembers two numbers a weight, and four bytes for each of its steps.
    assert kept(optimizer="adam") == 2 * learning + 4 * len(list(toy.model.parameters()))


def test_the_model_and_the_generators_are_as_they_were() -> None:
    toy = Toy(dropout=0.5)
    toy.model.eval()
    before = {name: one.clone() for name, one in toy.model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    trial(toy, _batch_of(toy), [2, 4], TrainingParams(lr=1.0))
    assert torch.equal(torch.rand(3), expected)
    assert not toy.model.training
    assert all(torch.equal(one, before[name]) for name, one in toy.model.state_dict().items())
    assert all(one.grad is None for one in toy.model.parameters())


def test_a_batch_that_does_not_fit_ends_the_trial_and_the_smallest_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    toy = Toy()
    plain = toy.loss

    def loss(batch: Any) -> torch.Tensor:
        if len(batch[0]) > most:
            raise torch.OutOfMemoryError
        return plain(batch)

    monkeypatch.setattr(toy, "loss", loss)
    most = 8
    assert [one.batch_size for one in trial(toy, _batch_of(toy), [4, 8, 16], PARAMS)] == [4, 8]
    most = 2
    with pytest.raises(UsageError, match="not even a batch of 4 fits into the memory of cpu"):
        trial(toy, _batch_of(toy), [4, 8], PARAMS)


@pytest.mark.parametrize("sizes", [[], [0, 4]])
def test_sizes_are_above_nothing(sizes: list[int]) -> None:
    toy = Toy()
    with pytest.raises(UsageError, match="batch sizes above 0"):
        trial(toy, _batch_of(toy), sizes, PARAMS)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the heap's settings are glibc's")
@pytest.mark.parametrize(("name", "n", "px"), [("resnet18", 16, 128), ("vit_tiny_patch16_224", 16, 160)])
def test_a_process_takes_what_is_said(name: str, n: int, px: int, monkeypatch: pytest.MonkeyPatch) -> None:
    task, heap = Classify(name, px), estimate._HEAP
    monkeypatch.setattr(estimate, "_HEAP", 1.0)
    *few, exact = trial(task, task.batch, [4, 8, n], PARAMS, n_threads=1)
    assert needed_bytes(few, n) == pytest.approx(exact.peak_bytes, rel=0.1), (
        "two small batches say it as well"
    )
    # psutil sees the heap's gaps too, which differ by processor (1.1 to 1.6 times what lives); each array mapped by
    # itself, there are none. A busy machine may not look in the very moment of the peak.
    with_gaps = exact.kept_bytes + heap * (exact.peak_bytes - exact.kept_bytes)
    assert 0.75 * exact.peak_bytes < _seen("pages", name, n, px) < 1.5 * with_gaps
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")
    assert exact.peak_bytes == pytest.approx(_seen("each", name, n, px), rel=0.25)


def _seen(how: str, name: str, n: int, px: int) -> int:
    script = Path(training_takes.__file__)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), how, name, str(n), str(px)]
    return int(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def _batch_of(toy: Toy) -> Any:
    def made(n: int) -> list[torch.Tensor]:
        toy.size = n
        return toy.batch(torch.Generator().manual_seed(0))

    return made
