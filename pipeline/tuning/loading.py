"""Augmented batches, made ahead by processes.

Processes and not threads, for what is drawn comes from torch's generator, of which a process has one.
"""

from collections.abc import Callable, Generator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from deponij.pipeline.tuning.augmenting import Augmenter


def augmented_batches(
    decode: Callable[[int], "NDArray[np.uint8] | Tensor"],
    augmenter: Augmenter,
    plan: Sequence[Sequence[int]],
    epoch: int,
    *,
    workers: int = 0,
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """The batches of an epoch in their order: numbers int64 [n] and pixels float32 [n, 3, s, s].

    They are the same with any number of workers, and no generator is disturbed. Torch's `DataLoader` does the work.

    Args:
        decode: a picture by its number, as `Augmenter.one` takes it; called in the workers.
        plan: the pictures' numbers, batch by batch. workers: processes; with 0 it runs in this thread.
    """
    loader = DataLoader(
        _Augmented(decode, augmenter, epoch),
        batch_sampler=plan,
        num_workers=workers,
        # Otherwise it draws a seed for its workers from the generator that the training has seeded.
        generator=torch.Generator(),
    )
    yield from loader


class _Augmented(Dataset[tuple[int, Tensor]]):
    def __init__(
        self, decode: Callable[[int], "NDArray[np.uint8] | Tensor"], augmenter: Augmenter, epoch: int
    ) -> None:
        self.decode, self.augmenter, self.epoch = decode, augmenter, epoch

    def __getitem__(self, number: int) -> tuple[int, Tensor]:
        return number, self.augmenter.one(self.decode(number), self.epoch, number)
