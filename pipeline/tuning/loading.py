"""Augmented batches, made ahead by processes.

Processes and not threads, for what is drawn comes from torch's generator, of which a process has one.
"""

import signal
from collections.abc import Callable, Generator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from deponij.pipeline.tuning.augmenting import Augmenter
from deponij.store.errors import DeponijError

Decode = Callable[[int], "NDArray[np.uint8] | Tensor"]
_Item = tuple[int, Tensor] | DeponijError


def augmented_batches(
    decode: Decode, augmenter: Augmenter, plan: Sequence[Sequence[int]], epoch: int, *, workers: int = 0
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """The batches of an epoch in their order: numbers int64 [n] and pixels float32 [n, 3, h, w].

    They are the same with any number of workers, and no generator is disturbed. Torch's `DataLoader` does the work.

    Args:
        decode: a picture by its number, as `Augmenter.one` takes it; called in the workers.
        plan: the pictures' numbers, batch by batch.
        workers: processes; with 0 it runs in this thread.

    Raises:
        DeponijError: what `decode` raises of these, when its batch's turn comes; `DataError` for what is no picture.
    """
    loader = DataLoader(
        _Augmented(decode, augmenter, epoch),
        batch_sampler=[list(one) for one in plan],
        num_workers=workers,
        collate_fn=_batch,
        worker_init_fn=_leave_interrupts,
        # Otherwise it draws a seed for its workers from the generator that the training has seeded.
        generator=torch.Generator(),
    )
    for batch in loader:
        if isinstance(batch, DeponijError):
            raise batch
        numbers, pixels = batch
        yield numbers, pixels


class _Augmented(Dataset[_Item]):
    """Errors for users are items of their own: torch would put a traceback of its worker into their message."""

    def __init__(self, decode: Decode, augmenter: Augmenter, epoch: int) -> None:
        self.decode, self.augmenter, self.epoch = decode, augmenter, epoch

    def __getitem__(self, number: int) -> _Item:
        try:
            return number, self.augmenter.one(self.decode(number), self.epoch, number)
        except DeponijError as error:
            return error


def _batch(items: list[_Item]) -> object:
    wrong = [one for one in items if isinstance(one, DeponijError)]
    return wrong[0] if wrong else default_collate(items)


def _leave_interrupts(worker: int) -> None:
    """Ctrl-C reaches workers too, and a training that ends its step first still needs them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
