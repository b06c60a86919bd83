"""The loop: batches in, a trained model out; interrupted, it goes on where it was.

Devices, mixed precision and clipping are Accelerate's. What draws (dropout) is seeded anew for each batch, so that no
state of a generator has to be kept and a training that was interrupted comes to the same bytes (on a CPU, with the same
threads).
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deponij.pipeline.training.checkpoint import EpochRecord, State, read_checkpoint, write_checkpoint
from deponij.pipeline.training.params import TrainingParams
from deponij.pipeline.training.task import Task
from deponij.store.errors import DataError, StoreError, UsageError

if TYPE_CHECKING:
    import torch

CHECKPOINT_S = 60.0
# How much of the shown loss is older than the last batch.
_SMOOTH = 0.95


@dataclass(frozen=True, slots=True)
class Step:
    """Where a training is, for whoever shows it.

    Attributes:
        done, total: batches of the whole training. epoch: from 0.
        loss: smoothed. figures: of the last validation.
    """

    done: int
    total: int
    epoch: int
    loss: float
    lr: float
    figures: dict[str, float]


@dataclass(frozen=True, slots=True)
class Training:
    """How a training went.

    Attributes:
        history: of each epoch. kept: the epoch whose weights the model has.
        seconds: of this process. waited_s: of these, for batches; computed_s: on steps.
        resumed_at: batches that an earlier process had done.
    """

    history: tuple[EpochRecord, ...]
    kept: int
    seconds: float
    waited_s: float
    computed_s: float
    resumed_at: int


def train(
    task: Task,
    params: TrainingParams,
    *,
    device: str = "cpu",
    n_threads: int | None = None,
    checkpoint: Path | None = None,
    checkpoint_s: float = CHECKPOINT_S,
    on_step: Callable[[Step], None] = lambda step: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> Training:
    """Train a task's model in place; it is in evaluation mode afterwards.

    Args:
        n_threads: of torch on the CPU; as they are by default.
        checkpoint: a folder; it stays when the training is done, and the same call then only loads its weights.
        checkpoint_s: seconds between checkpoints within an epoch.
        on_note: told what is out of the ordinary, as a checkpoint of something else that is not gone on with.

    Raises:
        DataError: the loss is not finite. UsageError: out of memory on a GPU, or nothing learns.
        StoreError: a checkpoint cannot be written.
    """
    with _threads(n_threads), _accelerator(device, params.precision) as accelerator:
        run = _Run(task, params, accelerator, checkpoint, checkpoint_s, on_step, on_note)
        try:
            return run.run()
        except accelerator.out_of_memory as error:
            raise UsageError(
                f"the training needs more memory than {device} has; lower batch_size ({params.batch_size}) and raise "
                f"accumulate ({params.accumulate}) to match, or take smaller windows, or precision: bf16"
            ) from error


class _Run:
    """One call of `train`."""

    def __init__(
        self,
        task: Task,
        params: TrainingParams,
        accelerator: "_Mechanics",
        folder: Path | None,
        checkpoint_s: float,
        on_step: Callable[[Step], None],
        on_note: Callable[[str], None],
    ) -> None:
        self.task, self.params, self.mechanics = task, params, accelerator
        self.folder, self.checkpoint_s = folder, checkpoint_s
        self.on_step, self.on_note = on_step, on_note
        self.model = task.model.to(accelerator.device)
        self.groups = [one for one in task.groups() if one.parameters]
        if not self.groups:
            raise UsageError("nothing of this model learns, so it cannot be trained")
        self.optimizer = _optimizer(self.groups, params)
        self.n_batches = task.n_batches()
        self.steps_an_epoch = -(-self.n_batches // params.accumulate)
        self.state = State(identity_of(task, params))
        self.best_weights: dict[str, torch.Tensor] = {}
        self.shown_loss = math.nan
        self.waited_s = self.computed_s = 0.0

    def run(self) -> Training:
        start = time.perf_counter()
        self._resume()
        resumed_at = self.state.epoch * self.n_batches + self.state.batch
        self.saved_at = time.monotonic()
        while self.state.epoch < self.params.epochs and not self._out_of_patience():
            self._epoch()
        kept = self._keep()
        self.model.eval()
        return Training(
            tuple(self.state.history),
            kept,
            time.perf_counter() - start,
            self.waited_s,
            self.computed_s,
            resumed_at,
        )

    def _epoch(self) -> None:
        state, n = self.state, self.n_batches
        self.model.train()
        with closing(_generator(self.task.batches(state.epoch, state.batch))) as batches:
            for number in range(state.batch, n):
                begin = time.perf_counter()
                batch = next(batches, None)
                if batch is None:
                    raise DataError(f"epoch {state.epoch} has {number} batches instead of {n}")
                self.waited_s += time.perf_counter() - begin
                begin = time.perf_counter()
                self._batch(batch, number)
                self.computed_s += time.perf_counter() - begin
                state.batch = number + 1
                # Between steps of the optimizer there are gradients, which no checkpoint holds.
                if self._steps_after(number) and time.monotonic() - self.saved_at > self.checkpoint_s:
                    self._save()
        self.model.eval()
        figures = self.task.validate()
        record = EpochRecord(state.loss_sum / n, self.optimizer.param_groups[0]["lr"], figures)
        state.history.append(record)
        if figures and (state.best is None or next(iter(figures.values())) > state.best[0]):
            state.best = (next(iter(figures.values())), state.epoch)
            if self.params.keep == "best":
                self.best_weights = {name: one.clone() for name, one in self.model.state_dict().items()}
        state.epoch, state.batch, state.loss_sum = state.epoch + 1, 0, 0.0
        self._save()

    def _batch(self, batch: Any, number: int) -> None:
        import torch

        state, params = self.state, self.params
        at = state.epoch * self.n_batches + number
        step = state.epoch * self.steps_an_epoch + number // params.accumulate
        rate = params.lr_at(step, params.epochs * self.steps_an_epoch)
        first = number // params.accumulate * params.accumulate
        n_together = min(params.accumulate, self.n_batches - first)
        with torch.random.fork_rng(devices=self.mechanics.cuda_devices):
            torch.manual_seed(_seed(params.seed, at))
            with self.mechanics.autocast():
                loss = self.task.loss(_moved(batch, self.mechanics.device))
            self.mechanics.backward(loss / n_together)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DataError(
                f"the loss is {value} in epoch {state.epoch + 1}, batch {number + 1}, at a learning rate of {rate:.3g}: "
                "lower lr, clip the gradient (clip_norm), or look at the data"
            )
        state.loss_sum += value
        self.shown_loss = (
            value if math.isnan(self.shown_loss) else (_SMOOTH * self.shown_loss + (1 - _SMOOTH) * value)
        )
        if self._steps_after(number):
            for group, own in zip(self.optimizer.param_groups, self.groups, strict=True):
                group["lr"] = rate * own.lr_factor
            self.mechanics.step(self.optimizer, params.clip_norm)
        figures = state.history[-1].figures if state.history else {}
        self.on_step(
            Step(at + 1, params.epochs * self.n_batches, state.epoch, self.shown_loss, rate, figures)
        )

    def _steps_after(self, number: int) -> bool:
        return (number + 1) % self.params.accumulate == 0 or number + 1 == self.n_batches

    def _out_of_patience(self) -> bool:
        best, patience = self.state.best, self.params.patience
        return patience is not None and best is not None and self.state.epoch - 1 - best[1] >= patience

    def _keep(self) -> int:
        if self.params.keep == "last" or self.state.best is None:
            return self.state.epoch - 1
        self.model.load_state_dict(self.best_weights)
        return self.state.best[1]

    def _save(self) -> None:
        if self.folder is None:
            return
        tensors = {f"model.{name}": one for name, one in self.model.state_dict().items()}
        tensors |= {f"best.{name}": one for name, one in self.best_weights.items()}
        for number, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": one for name, one in values.items() if one is not None}
        self.state.scale = self.mechanics.scale()
        write_checkpoint(self.folder, self.state, tensors)
        self.saved_at = time.monotonic()

    def _resume(self) -> None:
        if self.folder is None or not self.folder.exists():
            return
        try:
            state, tensors = read_checkpoint(self.folder)
        except StoreError as error:
            self.on_note(f"the training begins anew, for its checkpoint cannot be gone on with: {error}")
            return
        if state.identity != self.state.identity:
            self.on_note(
                f"the training begins anew: the checkpoint in {self.folder} is of other data, another model or other "
                "settings"
            )
            return
        self.model.load_state_dict(_of(tensors, "model."))
        self.best_weights = {
            name: one.to(self.mechanics.device) for name, one in _of(tensors, "best.").items()
        }
        values: dict[int, dict[str, Any]] = {}
        for name, one in _of(tensors, "optimizer.").items():
            number, _, which = name.partition(".")
            values.setdefault(int(number), {})[which] = one
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": values})
        self.mechanics.set_scale(state.scale)
        self.state = state


def identity_of(task: Task, params: TrainingParams) -> str:
    """What stands for a training: a checkpoint of another one is not gone on with."""
    told = json.dumps([task.identity, params.model_dump(mode="json")], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def _of(tensors: "dict[str, torch.Tensor]", prefix: str) -> "dict[str, torch.Tensor]":
    return {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}


def _seed(seed: int, batch: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{batch}".encode()).digest()[:7], "big")


def _moved(batch: Any, device: Any) -> Any:
    if isinstance(batch, list | tuple):
        return type(batch)(_moved(one, device) for one in batch)
    return batch.to(device, non_blocking=True)


def _generator(batches: Iterator[Any]) -> Any:
    """Something that `closing` can close."""
    yield from batches


def _optimizer(groups: Any, params: TrainingParams) -> "torch.optim.Optimizer":
    import torch

    told = [
        {
            "params": list(one.parameters),
            "lr": params.lr * one.lr_factor,
            "weight_decay": params.weight_decay if one.weight_decay is None else one.weight_decay,
        }
        for one in groups
    ]
    match params.optimizer:
        case "adam":
            return torch.optim.Adam(told, betas=params.betas)
        case "adamw":
            return torch.optim.AdamW(told, betas=params.betas)
        case "sgd":
            return torch.optim.SGD(told, lr=params.lr, momentum=params.betas[0])


@contextmanager
def _threads(n_threads: int | None) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n_threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Mechanics:
    """What Accelerate does for one training."""

    def __init__(self, device: str, precision: str) -> None:
        import torch
        from accelerate import Accelerator

        if device.startswith("cuda"):
            torch.cuda.set_device(device)
        mixed = "no" if precision == "fp32" or device == "cpu" else precision
        self._accelerator = Accelerator(cpu=device == "cpu", mixed_precision=mixed)
        self.device = torch.device(device)
        self.cuda_devices = [self.device.index or 0] if device.startswith("cuda") else []
        self.out_of_memory = torch.cuda.OutOfMemoryError

    def autocast(self) -> Any:
        """Mixed precision, where it is asked for."""
        return self._accelerator.autocast()

    def backward(self, loss: "torch.Tensor") -> None:
        """Gradients, scaled in fp16."""
        self._accelerator.backward(loss)

    def step(self, optimizer: "torch.optim.Optimizer", clip_norm: float | None) -> None:
        """One step of the optimizer; gradients are gone afterwards."""
        scaler = self._accelerator.scaler
        if scaler is not None and clip_norm is not None:
            scaler.unscale_(optimizer)
        if clip_norm is not None:
            parameters = [one for group in optimizer.param_groups for one in group["params"]]
            self._accelerator.clip_grad_norm_(parameters, clip_norm)
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
        optimizer.zero_grad()

    def scale(self) -> dict[str, float] | None:
        """Of losses in fp16."""
        scaler = self._accelerator.scaler
        return None if scaler is None else dict(scaler.state_dict())

    def set_scale(self, scale: dict[str, float] | None) -> None:
        """As it was in the checkpoint."""
        if scale is not None and self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(scale)


@contextmanager
def _accelerator(device: str, precision: str) -> Iterator[_Mechanics]:
    """Accelerate keeps its state in the process; the next training may want another one."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)
    try:
        yield _Mechanics(device, precision)
    finally:
        AcceleratorState._reset_state(True)
