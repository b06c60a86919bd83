"""Batches of workers are those of none."""

import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from deponij.pipeline.tuning.augmenting import Augmenter, preset
from deponij.pipeline.tuning.loading import augmented_batches
from deponij.store.errors import DataError

PLAN = [[4, 1, 3], [0, 2], [5, 1]]


def decode(number: int) -> NDArray[np.uint8]:
    if number > 5:
        raise DataError(f"picture {number} is gone")
    return np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)


@pytest.fixture
def augmenter() -> Augmenter:
    return Augmenter(preset("heavy"), 16, mean=(0.5,) * 3, std=(0.5,) * 3, seed=2)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_their_order_whoever_makes_them(augmenter: Augmenter, workers: int) -> None:
    torch.manual_seed(4)
    wanted = torch.rand(2)
    torch.manual_seed(4)
    found = list(augmented_batches(decode, augmenter, PLAN, 7, workers=workers))
    assert torch.equal(torch.rand(2), wanted)
    assert [numbers.tolist() for numbers, _ in found] == PLAN and found[0][0].dtype == torch.int64
    for numbers, pixels in found:
        plain = augmenter.batch([decode(int(one)) for one in numbers], 7, numbers.tolist())
        assert torch.equal(pixels, plain)


def test_it_can_be_left_and_begun_in_the_middle(augmenter: Augmenter) -> None:
    whole = list(augmented_batches(decode, augmenter, PLAN, 7))
    batches = augmented_batches(decode, augmenter, PLAN, 7, workers=1)
    next(batches)
    batches.close()
    rest = list(augmented_batches(decode, augmenter, PLAN[1:], 7))
    assert all(torch.equal(one[1], other[1]) for one, other in zip(whole[1:], rest, strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_is_gone_is_the_same_error(augmenter: Augmenter, workers: int) -> None:
    batches = augmented_batches(decode, augmenter, [[1], [6]], 0, workers=workers)
    assert next(batches)[0].tolist() == [1]
    with pytest.raises(DataError) as raised:
        next(batches)
    assert str(raised.value) == "picture 6 is gone"  # and no traceback of a worker


def test_workers_outlive_an_interrupt(augmenter: Augmenter) -> None:
    """Ctrl-C of a terminal goes to all processes; here to the workers alone."""
    batches = augmented_batches(decode, augmenter, PLAN * 5, 7, workers=1)
    first = next(batches)
    for one in multiprocessing.active_children():
        assert one.pid is not None
        os.kill(one.pid, signal.SIGINT)
    assert len([first, *batches]) == 15
