"""What a training will take, before it begins: seconds and memory by a trial of a few steps, and the batch that fits.

The memory of a step is what its arrays take at their peak: on a GPU by torch's allocator; on a CPU, whose memory nobody
allots, counted operation by operation (`pipeline.living`), with an allowance for the gaps that the C library's heap leaves.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deponij.pipeline.training.freed_memory import give_back
from deponij.pipeline.training.mechanics import Mechanics, mechanics
from deponij.pipeline.training.params import TrainingParams
from deponij.pipeline.training.task import Task
from deponij.pipeline.training.weights import changing, optimizer_of, state_of
from deponij.store.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

# Resident memory over what lives, with glibc's heap as `project.frame.allocator` sets it: 1.2 (ViT-S/16), 1.5 (ResNet-18,
# SwiftNet's decoder), 1.7 (LSeg's), 2.1 (a ViT-B/16 by LoRA). Where each array is mapped by itself it is 1.0 of all of them.
_HEAP = 1.6


@dataclass(frozen=True, slots=True)
class Tried:
    """What steps of one batch size took. Bytes are those beside the model's weights, which lie there already.

    Attributes:
        picture_s: seconds of a step, by picture.
        kept_bytes: what the optimizer remembers, and weights that are kept beside the model's.
        gradient_bytes: of all that learns.
        peak_bytes: of a step, what is kept included.
    """

    batch_size: int
    picture_s: float
    kept_bytes: int
    gradient_bytes: int
    peak_bytes: int


def needed_bytes(tried: Sequence[Tried], batch_size: int) -> int:
    """What a batch of another size needs beside the model's weights.

    For one larger than all that were tried by the line through the two largest, for a smaller one by the smallest of them.
    Where one alone is known, nobody knows how many of the gradients were there at its peak, and it is rather too much: for a
    larger batch none of them, so that all but what is kept grows with it; for a smaller one all of them, which stay.

    Args:
        tried: of one training, ascending; at least one.
    """
    nearest = next((one for one in tried if one.batch_size >= batch_size), tried[-1])
    more = batch_size - nearest.batch_size
    lives = nearest.peak_bytes - nearest.kept_bytes
    if more <= 0:
        return nearest.peak_bytes + (lives - min(nearest.gradient_bytes, lives)) * more // nearest.batch_size
    if len(tried) == 1:
        return nearest.peak_bytes + lives * more // nearest.batch_size
    before = tried[-2]
    grown = nearest.peak_bytes - before.peak_bytes
    return nearest.peak_bytes + grown * more // (nearest.batch_size - before.batch_size)


def trial(
    task: Task,
    batch_of: Callable[[int], Any],
    batch_sizes: Sequence[int],
    params: TrainingParams,
    *,
    device: str = "cpu",
    n_threads: int | None = None,
) -> list[Tried]:
    """Two steps of each batch size, smallest first, up to one that does not fit into a GPU's memory.

    The task's model is on the device afterwards, and otherwise as it was; so are torch's generators, and what is free.

    Args:
        batch_of: from a number of pictures to a batch as `task.loss` takes it; random numbers will do. Networks with batch
            norms may want two pictures.
        batch_sizes: at least 1 each; two small ones, as 4 and 8, say what a large one needs, see `needed_bytes`.
        params: whose optimizer and precision are those of the training to come.

    Raises:
        UsageError: no batch size, nothing learns, or not even the smallest batch fits.
    """
    import torch

    sizes = sorted(set(batch_sizes))
    groups = [one for one in task.groups() if one.parameters]
    if not sizes or sizes[0] < 1 or not groups:
        raise UsageError(
            f"a trial needs batch sizes above 0 and something that learns; got {list(batch_sizes)}"
        )
    with mechanics(device, params.precision, n_threads) as made:
        model, was_training = task.model.to(made.device), task.model.training
        before = {name: one.detach().to("cpu", copy=True) for name, one in model.state_dict().items()}
        steps = _Steps(task, made, optimizer_of(groups, params), params)
        tried: list[Tried] = []
        model.train()
        try:
            # Kernels, and what the optimizer remembers from now on.
            steps.once(batch_of(sizes[0]))
            for size in sizes:
                tried.append(steps.tried(size, batch_of(size)))
        except torch.OutOfMemoryError as error:
            if not tried:
                raise UsageError(
                    f"not even a batch of {sizes[0]} fits into the memory of {device}: take smaller pictures or windows, a "
                    "smaller model, or learn less of it"
                ) from error
        finally:
            steps.optimizer.zero_grad()
            model.load_state_dict(before)
            model.train(was_training)
            give_back()
    return tried


def fitting(batch_size: int, needed: Callable[[int], int], available_bytes: int) -> tuple[int, int]:
    """The largest piece of a batch that fits, and how many of them the batch takes: it is halved until it fits.

    Args:
        needed: bytes of a batch size.
        available_bytes: that may be taken.

    Raises:
        UsageError: a single picture does not fit.
    """
    pieces = 1
    while needed(fits := -(-batch_size // pieces)) > available_bytes:
        if fits == 1:
            raise UsageError(
                f"a single picture needs {needed(1) / 1e9:.1f} GB and {available_bytes / 1e9:.1f} GB are free: take "
                "smaller pictures or windows, a smaller model, or learn less of it"
            )
        pieces *= 2
    return fits, -(-batch_size // fits)


def _tensors_in(batch: Any) -> "Iterator[Tensor]":
    if isinstance(batch, list | tuple):
        for one in batch:
            yield from _tensors_in(one)
    else:
        yield batch


def n_bytes_of(tensors: "Iterable[Tensor]") -> int:
    """Of distinct arrays."""
    storages = {one.untyped_storage().data_ptr(): int(one.untyped_storage().nbytes()) for one in tensors}
    return sum(storages.values())


@dataclass
class _Steps:
    task: Task
    made: Mechanics
    optimizer: Any
    params: TrainingParams

    def once(self, batch: Any) -> None:
        """A step as the loop makes it."""
        with self.made.autocast():
            loss = self.task.loss(self.made.moved(batch))
        self.made.backward(loss)
        self.made.step(self.optimizer, self.params.clip_norm)

    def tried(self, size: int, batch: Any) -> Tried:
        """The first step for the memory, the second for the time."""
        heap = _HEAP if self.made.gpu is None else 1.0
        kept = n_bytes_of(state_of(self.optimizer).values()) + self._beside_bytes()
        gradients = int(heap * n_bytes_of(self._learning()))
        lives = int(heap * (self._on_cpu if self.made.gpu is None else self._on_gpu)(batch))
        begin = self._now()
        self.once(batch)
        return Tried(size, (self._now() - begin) / size, kept, gradients, kept + max(lives, gradients))

    def _on_cpu(self, batch: Any) -> int:
        from deponij.pipeline.training.living import Living

        with Living() as living:
            self.once(batch)
        return int(living.most_bytes) + n_bytes_of(_tensors_in(batch))

    def _on_gpu(self, batch: Any) -> int:
        import torch

        torch.cuda.reset_peak_memory_stats(self.made.gpu)
        before = torch.cuda.memory_allocated(self.made.gpu)
        self.once(batch)
        return int(torch.cuda.max_memory_allocated(self.made.gpu)) - before

    def _beside_bytes(self) -> int:
        """The average of the weights, and those of the best epoch."""
        averaged = n_bytes_of(self._learning()) if self.params.average is not None else 0
        best = n_bytes_of(changing(self.task.model).values()) if self.params.keep == "best" else 0
        return averaged + best

    def _learning(self) -> "list[Tensor]":
        return [one for group in self.optimizer.param_groups for one in group["params"]]

    def _now(self) -> float:
        import torch

        if self.made.gpu is not None:
            torch.cuda.synchronize(self.made.gpu)
        return time.perf_counter()
