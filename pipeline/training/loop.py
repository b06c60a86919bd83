"""The loop: batches in, a trained model out; interrupted, it goes on where it was.

Mechanics are Accelerate's (`mechanics`). What draws (dropout) is seeded anew for each batch, so that no state of a
generator has to be kept and a training that was interrupted comes to the same bytes (on a CPU, with the same threads).

Whoever shows a training is told each step, `on_step`, and each epoch, `on_epoch`; trackers (TensorBoard, DVCLive) are
told by themselves (`trackers`).
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deponij.pipeline.training.checkpoint import EpochRecord, State, read_checkpoint, write_checkpoint
from deponij.pipeline.training.identity import differences, identity_of, settings_of
from deponij.pipeline.training.mechanics import Interrupts, Mechanics, mechanics, require_compiler
from deponij.pipeline.training.params import TrainingParams
from deponij.pipeline.training.task import Task
from deponij.pipeline.training.trackers import Tracking, tracked
from deponij.pipeline.training.weights import (
    Average,
    changing,
    optimizer_of,
    restore,
    state_of,
)
from deponij.store.errors import DataError, StoreError, UsageError, explained
from deponij.store.texts import in_percent

if TYPE_CHECKING:
    from torch import Tensor

CHECKPOINT_S = 60.0
# Of short epochs not each has a checkpoint: at most this share of the time goes into them.
_CHECKPOINTS_SHARE = 0.05
# How much of the shown loss is older than the last batch.
_SMOOTH = 0.95


@dataclass(frozen=True, slots=True)
class Step:
    """Where a training is, for whoever shows it.

    Attributes:
        done, total: batches of the whole training.
        epoch: from 0.
        loss: smoothed.
        figures: of the last validation.
        batches_per_s, remaining_s: by what this process did, validation and waiting for data included.
    """

    done: int
    total: int
    epoch: int
    loss: float
    lr: float
    figures: dict[str, float]
    batches_per_s: float
    remaining_s: float


@dataclass(frozen=True, slots=True)
class Training:
    """How a training went.

    Attributes:
        history: of each epoch.
        kept: the epoch whose weights the model has.
        seconds: of this process.
        waited_s: of these, for batches.
        computed_s: on steps.
        resumed_at: batches that an earlier process had done.
    """

    history: tuple[EpochRecord, ...]
    kept: int
    seconds: float
    waited_s: float
    computed_s: float
    resumed_at: int


@dataclass(frozen=True, slots=True)
class _Told:
    """Who is told what."""

    on_step: Callable[[Step], None]
    on_epoch: Callable[[int, EpochRecord], None]
    on_note: Callable[[str], None]


def train(
    task: Task,
    params: TrainingParams,
    *,
    device: str = "cpu",
    n_threads: int | None = None,
    checkpoint: Path | None = None,
    checkpoint_s: float = CHECKPOINT_S,
    on_step: Callable[[Step], None] = lambda step: None,
    on_epoch: Callable[[int, EpochRecord], None] = lambda epoch, record: None,
    on_note: Callable[[str], None] = lambda note: None,
    tracking: Tracking | None = None,
) -> Training:
    """Train a task's model in place; it is in evaluation mode afterwards.

    Ctrl-C lets the step in hand end, and leaves a checkpoint. A checkpoint that cannot be written (a full disk) is told,
    and the training goes on.

    Args:
        n_threads: of torch on the CPU; as they are by default.
        checkpoint: a folder, for all but frozen weights; it stays when the training is done, and the same call then only
            loads its weights.
        checkpoint_s: seconds between checkpoints; there is one after each epoch too, where that does not cost much.
        on_epoch: told each epoch, from 0, and what it brought.
        on_note: told what is out of the ordinary, as a checkpoint of something else that is not gone on with.
        tracking: trackers that are told `train/loss` and `train/lr` of each batch, and `epoch/loss` and the figures of
            validation as `epoch/NAME` of each epoch, at the number of batches done.

    Raises:
        DataError: the loss is not finite, or batches are missing.
        UsageError: out of memory on a GPU, or nothing learns, or from nothing; a tracker is not installed;
            `deterministic`, and an operation cannot be; or `compile`, and the machine or the model cannot.
        StoreError: a tracker cannot begin.
    """
    import torch

    if tracking is not None:
        tracking.check()
    told = _Told(on_step, on_epoch, on_note)
    own = mechanics(device, params.precision, n_threads, deterministic=params.deterministic)
    with own as made, Interrupts() as interrupts:
        if made.precision != params.precision:
            on_note(
                f"precision: {params.precision} is of a GPU; on {device} the training computes in {made.precision}"
            )
            params = params.model_copy(update={"precision": made.precision})
        try:
            return _Run(task, params, made, interrupts, checkpoint, checkpoint_s, told).run(tracking)
        except torch.OutOfMemoryError as error:
            narrower = ", or precision: bf16" if params.precision == "fp32" else ""
            raised = f" or raise pieces ({params.pieces})" if task.accumulates else ""
            raise UsageError(
                f"the training needs more memory than {device} has; lower batch_size ({params.batch_size}){raised}, or "
                f"take smaller pictures or windows{narrower}"
            ) from error
        except RuntimeError as error:
            if params.compile and type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise UsageError(
                    f"compile: true is not possible with this model: {str(error).splitlines()[0]}; leave it off"
                ) from error
            # Torch has no error of its own for this (`alertNotDeterministic`).
            if not (params.deterministic and "deterministic" in str(error)):
                raise
            raise UsageError(f"deterministic: true cannot be kept: {str(error).splitlines()[0]}") from error


class _Run:
    """One call of `train`."""

    def __init__(
        self,
        task: Task,
        params: TrainingParams,
        made: Mechanics,
        interrupts: Interrupts,
        folder: Path | None,
        checkpoint_s: float,
        told: _Told,
    ) -> None:
        self.task, self.params, self.mechanics, self.interrupts = task, params, made, interrupts
        self.folder, self.checkpoint_s, self.told = folder, checkpoint_s, told
        self.model = task.model.to(made.device)
        self.loss_of = made.loss_of(task)
        if params.compile:
            require_compiler(made.device)
            # In place, so that names of weights stay as they are.
            self.model.compile()
        self.groups = [one for one in task.groups() if one.parameters]
        self.n_batches = task.n_batches()
        if params.pieces > 1 and not task.accumulates:
            raise UsageError(
                f"pieces: {params.pieces} is not possible here: what is learned is told apart within a batch"
            )
        if not self.groups or not self.n_batches:
            what = "there are no batches to learn from" if self.groups else "nothing of this model learns"
            raise UsageError(f"{what}, so it cannot be trained")
        self.optimizer = optimizer_of(self.groups, params)
        self.average = Average(self.model, params.average) if params.average is not None else None
        self.steps_an_epoch = -(-self.n_batches // params.accumulate)
        settings = settings_of(task, params)
        self.state = State.begin(identity_of(settings), settings, params.pieces)
        self.best_weights: dict[str, Tensor] = {}
        self.shown_loss = math.nan
        self.counted: list[float] = []  # of the batches of this step
        self.waited_s = self.computed_s = self.saving_s = 0.0
        self.was_told_of_disk = False
        self.aside: Path | None = (
            None  # where what lies in the checkpoint's place goes before anything replaces it
        )
        self.kept_at: tuple[int, int] | None = None  # epoch and batch to be done next, of the checkpoint

    @property
    def done(self) -> int:
        """Batches, of the whole training."""
        return self.state.epoch * self.n_batches + self.state.batch

    @property
    def unit(self) -> float:
        """What the first batch of this step counts that counts anything."""
        return next((one for one in self.counted if one), 1.0)

    def run(self, tracking: Tracking | None) -> Training:
        self.began = time.perf_counter()
        self._resume()
        self.resumed_at = self.done
        self._look_at_average()
        self.saved_at = time.monotonic()
        settings = self.params.model_dump(mode="json")
        try:
            with tracked(tracking, settings, self.done, self.told.on_note) as self.log:
                while not self._is_done():
                    self._epoch()
        except KeyboardInterrupt:
            self._interrupted()
            raise
        kept = self._keep()
        self.model.eval()
        seconds = time.perf_counter() - self.began
        return Training(
            tuple(self.state.history), kept, seconds, self.waited_s, self.computed_s, self.resumed_at
        )

    def _look_at_average(self) -> None:
        n_steps, decay = self.params.epochs * self.steps_an_epoch, self.params.average
        if decay is not None and decay**n_steps > 0.5 and not self.done:
            self.told.on_note(
                f"average: {decay} is slow for the {n_steps:,} steps of this training: {in_percent(decay**n_steps)} of what "
                "is kept are the weights that it begins with; take a smaller one"
            )

    def _epoch(self) -> None:
        state, n = self.state, self.n_batches
        self.model.train()
        self.mechanics.seed(_seed(self.params.seed, f"epoch {state.epoch}"))
        with closing(_generator(self.task.batches(state.epoch, state.batch))) as batches:
            for number in range(state.batch, n):
                begin = time.perf_counter()
                batch = next(batches, None)
                if batch is None:
                    raise DataError(f"epoch {state.epoch + 1} has {number} batches instead of {n}")
                self.waited_s += time.perf_counter() - begin
                begin = time.perf_counter()
                self.interrupts.hold()
                self._batch(batch, number)
                self.computed_s += time.perf_counter() - begin
                # Between steps of the optimizer there are gradients, which no checkpoint holds.
                if self._steps_after(number):
                    self.interrupts.release()
                    if time.monotonic() - self.saved_at > self.checkpoint_s:
                        self._save()
        self._validate()

    def _validate(self) -> None:
        """What an epoch brought, and whether it is the best one."""
        state = self.state
        self.model.eval()
        self.mechanics.seed(_seed(self.params.seed, f"validation {state.epoch}"))
        if self.average is not None:
            self.interrupts.hold()
        with self.average.in_place() if self.average is not None else nullcontext():
            figures = self.mechanics.of_first(self.task.validate)
            self.interrupts.hold()
            figure = next(iter(figures.values()), math.nan)
            if math.isfinite(figure) and (state.best is None or figure > state.best[0]):
                state.best = (figure, state.epoch)
                if self.params.keep == "best":
                    self.best_weights = {name: one.clone() for name, one in changing(self.model).items()}
        rate = self._rate(self.n_batches - 1)
        record = EpochRecord(state.loss_sum / self.n_batches, rate, figures)
        state.history.append(record)
        state.epoch, state.batch, state.loss_sum = state.epoch + 1, 0, 0.0
        self.interrupts.release()
        long_enough_s = min(self.checkpoint_s, self.saving_s / _CHECKPOINTS_SHARE)
        if self._is_done() or time.monotonic() - self.saved_at >= long_enough_s:
            self._save()
        self.log(
            {f"epoch/{name}": value for name, value in {"loss": record.loss, **figures}.items()}, self.done
        )
        self.told.on_epoch(state.epoch - 1, record)

    def _batch(self, batch: Any, number: int) -> None:
        import torch

        state, params = self.state, self.params
        rate = self._rate(number)
        first = number // params.accumulate * params.accumulate
        n_together = min(params.accumulate, self.n_batches - first)
        self.mechanics.seed(_seed(params.seed, f"batch {self.done}"))
        weight = self._weight(batch, number)
        losses = []
        for part, share in self.mechanics.parts(batch, state.pieces, self.task.counts):
            with self.mechanics.autocast():
                loss = self.loss_of(self.mechanics.moved(part)) * share
            self.mechanics.backward(loss * weight / n_together)
            losses.append(loss.detach())
        value = self.mechanics.mean(torch.stack(losses).sum())
        if not math.isfinite(value):
            narrow = "compute in bf16 or fp32, " if params.precision == "fp16" else ""
            raise DataError(
                f"the loss is {value} in epoch {state.epoch + 1}, batch {number + 1}, at a learning rate of {rate:.3g}: "
                f"{narrow}lower lr, clip the gradient (clip_norm), or look at the data{self._last_good()}"
            )
        state.loss_sum += value
        newest = 1.0 if math.isnan(self.shown_loss) else 1 - _SMOOTH
        self.shown_loss = value if newest == 1.0 else (1 - newest) * self.shown_loss + newest * value
        if self._steps_after(number):
            for group, own in zip(self.optimizer.param_groups, self.groups, strict=True):
                group["lr"] = rate * own.lr_factor
            factor = n_together * self.unit / sum(self.counted) if any(self.counted) else 1.0
            self.mechanics.step(self.optimizer, params.clip_norm, factor)
            if self.average is not None:
                self.average.update()
        state.batch = number + 1
        self.log({"train/loss": value, "train/lr": rate}, self.done)
        self.told.on_step(self._step(rate))

    def _weight(self, batch: Any, number: int) -> float:
        """Of a batch beside the first of those that make one step with it, the sum of all being known with the last."""
        if self.params.accumulate == 1:
            return 1.0
        if number % self.params.accumulate == 0:
            self.counted = []
        self.counted.append(self.task.counts(batch))
        return self.counted[-1] / self.unit

    def _last_good(self) -> str:
        """Of the weights before the loss was no number: where they are kept, if they are."""
        if self.kept_at is None:
            return ""
        epoch, batch = self.kept_at
        place = (
            f"epoch {epoch + 1}, batch {batch} of {self.n_batches}" if batch else f"the end of epoch {epoch}"
        )
        return f". The last good checkpoint is that of {place}, in {self.folder}; other settings begin anew and set it aside"

    def _rate(self, number: int) -> float:
        """Learning rate of a batch of this epoch."""
        step = self.state.epoch * self.steps_an_epoch + number // self.params.accumulate
        return self.params.lr_at(step, self.params.epochs * self.steps_an_epoch)

    def _step(self, rate: float) -> Step:
        state, total = self.state, self.params.epochs * self.n_batches
        per_s = (self.done - self.resumed_at) / max(time.perf_counter() - self.began, 1e-9)
        figures = state.history[-1].figures if state.history else {}
        remaining_s = (total - self.done) / per_s
        return Step(self.done, total, state.epoch, self.shown_loss, rate, figures, per_s, remaining_s)

    def _steps_after(self, number: int) -> bool:
        return (number + 1) % self.params.accumulate == 0 or number + 1 == self.n_batches

    def _is_done(self) -> bool:
        best, patience, epoch = self.state.best, self.params.patience, self.state.epoch
        is_stuck = patience is not None and best is not None and epoch - 1 - best[1] >= patience
        return is_stuck or epoch >= self.params.epochs

    def _keep(self) -> int:
        if self.params.keep == "best" and self.state.best is not None:
            self.model.load_state_dict(self.best_weights, strict=False)
            return self.state.best[1]
        if self.average is not None:
            self.average.put()
        return self.state.epoch - 1

    def _interrupted(self) -> None:
        if self.folder is not None:
            if not self.interrupts.held:
                self._save()
            self.told.on_note(
                f"interrupted after {self.done:,} of {self.params.epochs * self.n_batches:,} batches; the same command "
                f"goes on from its last checkpoint, in {self.folder}"
            )

    def _save(self) -> None:
        # Of weights that are no numbers the next loss tells; the checkpoint before them stays.
        learning = [one for one in self.model.parameters() if one.requires_grad]
        is_good = all(bool(one.isfinite().all()) for one in learning)
        if self.folder is None or not is_good or self.mechanics.rank:
            return
        tensors = {f"model.{name}": one for name, one in changing(self.model).items()}
        tensors |= {f"best.{name}": one for name, one in self.best_weights.items()}
        tensors |= {f"optimizer.{name}": one for name, one in state_of(self.optimizer).items()}
        if self.average is not None:
            tensors |= {f"average.{name}": one for name, one in self.average.weights.items()}
        self.state.scale = self.mechanics.scale()
        begin = time.monotonic()
        try:
            if self.aside is not None:
                with explained(f"cannot set {self.folder} aside"):
                    self.folder.rename(self.aside)
                self.aside = None
            write_checkpoint(self.folder, self.state, tensors)
            self.kept_at = self.state.epoch, self.state.batch
        except StoreError as error:
            if not self.was_told_of_disk:
                self.told.on_note(f"the training goes on, but its progress is not kept: {error}")
            self.was_told_of_disk = True
        self.saved_at = time.monotonic()
        self.saving_s = self.saved_at - begin

    def _leave(self, why: str) -> None:
        """Begin anew beside a checkpoint that is not gone on with."""
        assert self.folder is not None
        self.aside = _beside(self.folder)
        self.told.on_note(
            f"the training begins anew, for the checkpoint in {self.folder} {why}. It is set aside as {self.aside.name} "
            "until this training is done"
        )

    def _resume(self) -> None:
        if self.folder is None or not self.folder.exists():
            return
        try:
            state, tensors = read_checkpoint(self.folder)
        except StoreError as error:
            self._leave(f"cannot be read: {error}")
            return
        kept = _of(tensors, "model.")
        own = {name: one.shape for name, one in changing(self.model).items()}
        if state.identity != self.state.identity or {name: one.shape for name, one in kept.items()} != own:
            self._leave(f"is of another training: {differences(state.settings, self.state.settings)}")
            return
        # What is frozen is the model's own, for which its identity stands.
        self.model.load_state_dict(kept, strict=False)
        best = _of(tensors, "best.")
        self.best_weights = {name: one.to(self.mechanics.device) for name, one in best.items()}
        restore(self.optimizer, _of(tensors, "optimizer."))
        if self.average is not None:
            self.average.load(_of(tensors, "average."))
        self.mechanics.set_scale(state.scale)
        # In as many pieces as before it comes to the same bytes; where less memory is free now it takes more.
        state.pieces = max(state.pieces, self.params.pieces)
        self.state = state
        self.kept_at = state.epoch, state.batch


def _beside(folder: Path) -> Path:
    """A name of which there is nothing yet."""
    return next(one for n in count(1) if not (one := folder.with_name(f"{folder.name}.{n}")).exists())


def _of(tensors: "dict[str, Tensor]", prefix: str) -> "dict[str, Tensor]":
    return {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}


def _seed(seed: int, what: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{what}".encode()).digest()[:7], "big")


def _generator(batches: Iterator[Any]) -> Any:
    """Something that `closing` can close."""
    yield from batches
