"""What a training stands on: Accelerate's devices, precision and clipping; the process's own state, left as it was.

Accumulation is the mean over the batches that make one step, each counting by what is in it. Accelerate's own divides the
last and smaller group of an epoch by the full number.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from deponij.store.errors import UsageError

if TYPE_CHECKING:
    import torch

    from deponij.pipeline.training.params import Precision
    from deponij.pipeline.training.task import Task


_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def mechanics(
    device: str, precision: "Precision", n_threads: int | None, *, deterministic: bool = False
) -> "Iterator[Mechanics]":
    """Of one training. Threads, generators, the current GPU, whether torch is deterministic, and what Accelerate keeps
    are as before afterwards.

    Raises:
        UsageError: a batch of one picture has no statistics.
    """
    import torch

    before = torch.get_num_threads()
    with _own_state_of_accelerate(), _deterministic() if deterministic else nullcontext():
        torch.set_num_threads(n_threads or before)
        try:
            made = Mechanics(device, precision)
            current: AbstractContextManager[Any] = (
                nullcontext() if made.gpu is None else torch.cuda.device(made.gpu)
            )
            with current, torch.random.fork_rng(devices=[] if made.gpu is None else [made.gpu]):
                yield made
        except ValueError as error:
            # Torch has no error of its own for this.
            if "more than 1 value per channel" not in str(error):
                raise
            raise UsageError(
                "a batch of one picture, of which a batch norm sees a single position, cannot be learned from: take larger "
                "pictures, or a batch_size that leaves no rest of one"
            ) from error
        finally:
            torch.set_num_threads(before)


def require_compiler(device: "torch.device") -> None:
    """See that torch's compiler works here; the first time that takes some seconds.

    Raises:
        UsageError: it does not.
    """
    import torch

    # What earlier trainings had compiled counts towards the most that torch compiles of one function.
    torch.compiler.reset()
    try:
        torch.compile(torch.nn.ReLU())(torch.zeros(2, device=device))
    except RuntimeError as error:
        raise UsageError(
            f"compile: true needs what torch compiles with on a {device.type} (a C++ compiler as g++, for a GPU Triton "
            f"too): {str(error).splitlines()[0]}; install it, or leave compile off"
        ) from error


class Mechanics:
    """What Accelerate does for one training; nothing of it is written anywhere.

    Attributes:
        gpu: its number, or None.
        precision: that it computes in: the one that is asked for on a GPU, on a CPU fp32.
        rank, n_ranks: of this process among those that train together, as torchrun has started them; 0 of 1 otherwise.
    """

    def __init__(self, device: str, precision: "Precision") -> None:
        import torch
        from accelerate import Accelerator
        from accelerate.utils import GradientAccumulationPlugin

        self.device = torch.device(device)
        self.gpu = (self.device.index or 0) if self.device.type == "cuda" else None
        on_cpu = self.device.type == "cpu"
        self.precision: Precision = "fp32" if on_cpu else precision
        self._accelerator = Accelerator(
            cpu=on_cpu,
            mixed_precision="no" if self.precision == "fp32" else self.precision,
            # Given in this way no variable of the environment changes it.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        )
        self.rank, self.n_ranks = self._accelerator.process_index, self._accelerator.num_processes

    def loss_of(self, task: "Task") -> "Callable[[Any], torch.Tensor]":
        """The task's loss, by whose backward pass gradients become the mean over processes (`DistributedDataParallel`)."""
        if self.n_ranks == 1:
            return task.loss
        made: Callable[[Any], torch.Tensor] = self._accelerator.prepare_model(_loss_module(task))
        return made

    def parts(
        self, batch: Any, pieces: int, counts: "Callable[[Any], float]"
    ) -> "Iterator[tuple[Any, float]]":
        """This process's parts of a batch, and the factors of their losses by which the mean over processes of these
        parts' sums is the batch's loss.

        Args:
            pieces: in which each process computes what is its own; never more than it has pictures.
            counts: as `Task.counts`.
        """
        n = _n_rows(batch)
        n_pieces = min(pieces, -(-n // self.n_ranks))
        step = n_pieces * self.n_ranks
        if step == 1:
            yield batch, 1.0
            return
        whole = counts(batch) or 1.0
        for first in range(self.rank, step, self.n_ranks):
            rows = list(range(first, n, step))
            # Who gets nothing computes with what counts nothing: the others wait for its gradients.
            part = _rows(batch, rows or [0])
            yield part, counts(part) * self.n_ranks / whole if rows else 0.0

    def mean(self, value: "torch.Tensor") -> float:
        """Of a number of each process."""
        return float(self._accelerator.reduce(value, "mean") if self.n_ranks > 1 else value)

    def of_first(self, ask: "Callable[[], dict[str, float]]") -> dict[str, float]:
        """What the first process answers, in all of them."""
        if self.n_ranks == 1:
            return ask()
        from accelerate.utils import broadcast_object_list

        told = broadcast_object_list([ask() if self.rank == 0 else None])
        answer: dict[str, float] = told[0]
        return answer

    def seed(self, seed: int) -> None:
        """Of torch's generators of this training's devices alone."""
        import torch

        torch.default_generator.manual_seed(seed)
        if self.gpu is not None:
            torch.cuda.manual_seed(seed)

    def moved(self, batch: Any) -> Any:
        """Tensors, or lists and tuples of them, on the device."""
        if isinstance(batch, list | tuple):
            return type(batch)(self.moved(one) for one in batch)
        return batch.to(self.device, non_blocking=True)

    def autocast(self) -> Any:
        """Mixed precision, where it is asked for."""
        return self._accelerator.autocast()

    def backward(self, loss: "torch.Tensor") -> None:
        """Gradients, scaled in fp16."""
        self._accelerator.backward(loss)

    def step(self, optimizer: "torch.optim.Optimizer", clip_norm: float | None, factor: float = 1.0) -> None:
        """One step of the optimizer; gradients are gone afterwards.

        Args:
            factor: of the gradients, before they are clipped.
        """
        scaler = self._accelerator.scaler
        parameters = [one for group in optimizer.param_groups for one in group["params"]]
        if factor != 1.0:
            for one in parameters:
                if one.grad is not None:
                    one.grad.mul_(factor)
        if scaler is not None and clip_norm is not None:
            scaler.unscale_(optimizer)
        if clip_norm is not None:
            self._accelerator.clip_grad_norm_(parameters, clip_norm)
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
        optimizer.zero_grad()

    def scale(self) -> dict[str, float | int] | None:
        """Of losses in fp16."""
        scaler = self._accelerator.scaler
        return None if scaler is None else dict(scaler.state_dict())

    def set_scale(self, scale: dict[str, float | int] | None) -> None:
        """As it was in the checkpoint."""
        if scale is not None and self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(scale)


def _loss_module(task: "Task") -> "torch.nn.Module":
    from torch import nn

    class Loss(nn.Module):
        """forward(batch) -> the task's loss: what is wrapped must be a module whose forward pass that is."""

        def __init__(self) -> None:
            super().__init__()
            self.model = task.model

        def forward(self, batch: Any) -> "torch.Tensor":
            return task.loss(batch)

    return Loss()


def _n_rows(batch: Any) -> int:
    """Of the first tensor, as of all: a picture's maps are one a level."""
    return _n_rows(batch[0]) if isinstance(batch, list | tuple) else len(batch)


def _rows(batch: Any, rows: list[int]) -> Any:
    if isinstance(batch, list | tuple):
        return type(batch)(_rows(one, rows) for one in batch)
    return batch[rows]


class Interrupts:
    """Ctrl-C, put off to where a training can be gone on with; a second one ends it at once.

    It is left to whoever handles it already, and to the main thread.
    """

    def __init__(self) -> None:
        self.held = self._came = False

    def __enter__(self) -> "Interrupts":
        self._is_ours = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self._is_ours:
            signal.signal(signal.SIGINT, self._interrupted)
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def hold(self) -> None:
        """From here on the training is in the middle of something."""
        self.held = True

    def release(self) -> None:
        """It is not any more.

        Raises:
            KeyboardInterrupt: Ctrl-C came in the meantime.
        """
        self.held = False
        if self._came:
            self._came = False
            raise KeyboardInterrupt

    def _interrupted(self, *_: object) -> None:
        if not self.held or self._came:
            raise KeyboardInterrupt
        self._came = True


@contextmanager
def _deterministic() -> Iterator[None]:
    """Torch's deterministic operations; cuBLAS has some only in a workspace of a fixed size (CUDA's documentation)."""
    import torch

    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    workspace = os.environ.get(_WORKSPACE)
    os.environ.setdefault(_WORKSPACE, ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        if workspace is None:
            del os.environ[_WORKSPACE]


@contextmanager
def _own_state_of_accelerate() -> Iterator[None]:
    """Accelerate keeps its state in the process; this training has one of its own, the caller's comes back."""
    from accelerate.state import AcceleratorState, GradientState, PartialState

    shared: list[Any] = [one._shared_state for one in (PartialState, AcceleratorState, GradientState)]
    before = [dict(one) for one in shared]
    for one in shared:
        one.clear()
    try:
        yield
    finally:
        for one, values in zip(shared, before, strict=True):
            one.clear()
            one.update(values)
