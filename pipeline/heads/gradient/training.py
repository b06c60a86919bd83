"""Many heads of one shape trained together, step by step. Which heads are of one shape: `grid`.

Heads of one seed see the same batch; several seeds are the batch of a batched product. Gradients are
written out by hand (`layers`). A head that has stopped leaves the computation.

Shape letters: G seeds, R heads a seed (a slot may be empty), b examples of a step, n validation
examples, d feature width with the 1 and zeros up to a multiple of 16, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.heads.gradient.layers import Linear, Mlp, first_weights, softmax
from deponij.pipeline.heads.gradient.recipe import GridPoint, Recipe, batches

if TYPE_CHECKING:
    from torch import Tensor

_VAL_ROWS = 512
_EMPTY = -1


@dataclass(frozen=True, slots=True)
class Shape:
    """What heads must share to be trained together, and their data.

    Attributes:
        kind: `linear` or `mlp`.
        x, codes: training examples: [n_train, d] ending with 1, and class numbers.
        x_val, codes_val: validation examples of known classes; empty where there are none.
        dim: feature width without the 1. n_classes: C.
        class_weights: of the loss, [C], or None. offset: added to logits while learning, [C], or None.
    """

    kind: str
    x: "Tensor"
    codes: "Tensor"
    x_val: "Tensor"
    codes_val: "Tensor"
    dim: int
    n_classes: int
    class_weights: "Tensor | None" = None
    offset: "Tensor | None" = None


@dataclass(slots=True)
class Trained:
    """One head after training.

    Attributes:
        weights: of each layer [out, in + 1], the last column is the bias; in the features' precision.
        val_loss: at the epoch whose weights these are; NaN without validation.
        best_epoch: that epoch, from 1; 0 if none gave finite numbers: then they are the first weights.
        n_epochs: how many were run.
    """

    weights: list[NDArray[np.floating]] = field(default_factory=list)
    val_loss: float = float("nan")
    best_epoch: int = 0
    n_epochs: int = 0


def train_together(shape: Shape, points: Sequence[GridPoint], recipe: Recipe) -> list[Trained]:
    """Train heads of one shape together, on one thread; in the order of `points`."""
    import torch

    with torch.no_grad():
        return _Run(shape, points, recipe).train()


class _Run:
    """One training: the slots, their weights and moments, and what became of each head."""

    layers: "Linear | Mlp"

    def __init__(self, shape: Shape, points: Sequence[GridPoint], recipe: Recipe) -> None:
        import torch

        self.shape, self.points, self.recipe = shape, points, recipe
        self.n_train = len(shape.codes)
        self.trained = [Trained() for _ in points]
        self.waited = [0] * len(points)
        self.onehot = torch.nn.functional.one_hot(shape.codes, shape.n_classes).to(shape.x.dtype)
        if shape.class_weights is not None:
            self.example_weights = shape.class_weights[shape.codes]
        self.seeds = list(dict.fromkeys(point.seed for point in points))
        rows = [[i for i, point in enumerate(points) if point.seed == seed] for seed in self.seeds]
        n_slots = max(len(row) for row in rows)
        self.slots = [row + [_EMPTY] * (n_slots - len(row)) for row in rows]
        first = [
            first_weights(shape.kind, shape.dim, shape.n_classes, point.seed, recipe.init_std, shape.x.dtype)
            for point in points
        ]
        self._allocate([[first[i] if i != _EMPTY else None for i in row] for row in self.slots])
        for g, row in enumerate(self.slots):
            for r, i in enumerate(row):
                if i != _EMPTY:
                    self.trained[i].weights = self._weights(g, r)

    def train(self) -> list[Trained]:
        streams = {seed: batches(seed, self.n_train, self.recipe) for seed in self.seeds}
        n_steps = self.recipe.n_steps(self.n_train)
        step = 0
        for epoch in range(1, self.recipe.epochs + 1):
            for _ in range(n_steps):
                self._step([next(streams[seed]) for seed in self.seeds], step)
                step += 1
            self._judge(epoch)
            if not any(i != _EMPTY for row in self.slots for i in row):
                break
        return self.trained

    # -------------------------------------------------------------- one step

    def _step(self, rows: Sequence[NDArray[np.int64]], step: int) -> None:
        import torch

        chosen = torch.from_numpy(np.concatenate(rows))
        n_seeds, n_batch = len(rows), len(rows[0])
        x = self.shape.x.index_select(0, chosen).view(n_seeds, n_batch, -1)
        logits = self.layers.logits(x)
        if self.shape.offset is not None:
            logits = logits + self.shape.offset
        # d loss / d logits of cross-entropy is softmax - onehot, each example by its share of the batch.
        errors = softmax(logits)
        truth = self.onehot.index_select(0, chosen).view(n_seeds, n_batch, -1)
        errors -= self.layers.beside(truth)
        if self.shape.class_weights is None:
            errors *= 1 / n_batch
        else:
            shares = self.example_weights.index_select(0, chosen).view(n_seeds, n_batch, 1)
            errors *= self.layers.beside(shares / shares.sum(dim=1, keepdim=True))
        self.layers.gradients(x, errors)
        self._update(step)

    def _update(self, step: int) -> None:
        import torch

        self.step_count.fill_(step + 1)
        rates = {lr: self.recipe.learning_rate(lr, step, self.n_train) for lr in self.groups}
        if self.decays is not None:
            self._decay(self.decays, rates)
        for lr, (weights, gradients, first, second) in self.groups.items():
            rate = rates[lr]
            if self.recipe.optimiser == "sgd":
                _sgd(weights, gradients, first, rate, self.recipe.momentum)
                continue
            # What torch.optim.AdamW(fused=True) calls. Its own bookkeeping takes 18 us a group, more
            # than the arithmetic of a small head.
            torch._fused_adamw_(
                weights,
                gradients,
                first,
                second,
                [],
                [self.step_count] * len(weights),
                lr=rate,
                beta1=0.9,
                beta2=0.999,
                weight_decay=0.0,
                eps=1e-8,
                amsgrad=False,
                maximize=False,
            )

    def _decay(self, decays: "Tensor", rates: dict[float, float]) -> None:
        """Weight decay of all heads at once: AdamW's before the step, SGD's as a part of the gradient."""
        import torch

        for weights, gradients in zip(self.layers.weights, self.layers.gradients_, strict=True):
            shape = (*decays.shape, 1, 1)
            if self.recipe.optimiser == "sgd":
                gradients.addcmul_(weights, decays.to(weights.dtype).view(shape))
                continue
            lrs = [[0.0 if i == _EMPTY else rates[self.points[i].lr] for i in row] for row in self.slots]
            kept = 1 - torch.tensor(lrs, dtype=torch.float64) * decays
            weights.mul_(kept.to(weights.dtype).view(shape))

    # -------------------------------------------------------------- after an epoch

    def _judge(self, epoch: int) -> None:
        """Note validation losses, keep the best weights, drop heads that have stopped."""
        losses = self._val_losses()
        stopped = False
        for g, row in enumerate(self.slots):
            for r, i in enumerate(row):
                if i == _EMPTY:
                    continue
                self._note(g, r, epoch, None if losses is None else losses[g][r])
                patience = self.recipe.patience
                if epoch == self.recipe.epochs or (patience is not None and self.waited[i] >= patience):
                    self.slots[g][r] = _EMPTY
                    stopped = True
        if stopped and epoch < self.recipe.epochs:
            self._drop_stopped()

    def _note(self, g: int, r: int, epoch: int, loss: float | None) -> None:
        i = self.slots[g][r]
        head = self.trained[i]
        head.n_epochs = epoch
        better = loss is not None and np.isfinite(loss) and not loss >= head.val_loss
        self.waited[i] = 0 if better or loss is None else self.waited[i] + 1
        if better or self.recipe.keep == "last" or loss is None:
            weights = self._weights(g, r)
            if all(np.isfinite(layer).all() for layer in weights):
                head.weights, head.best_epoch = weights, epoch
                head.val_loss = float("nan") if loss is None else loss

    def _weights(self, g: int, r: int) -> list[NDArray[np.floating]]:
        return [
            tensor[g, r, :, : width + 1].numpy().copy()
            for tensor, width in zip(self.layers.weights, self.layers.widths, strict=True)
        ]

    def _val_losses(self) -> list[list[float]] | None:
        """Mean loss of each slot, as in training, over validation examples."""
        import torch

        shape = self.shape
        n = len(shape.codes_val)
        if n == 0:
            return None
        weights = torch.ones(n, dtype=torch.float64)
        if shape.class_weights is not None:
            weights = shape.class_weights[shape.codes_val].double()
        total = torch.zeros(len(self.slots), len(self.slots[0]), dtype=torch.float64)
        for start in range(0, n, _VAL_ROWS):
            rows = slice(start, start + _VAL_ROWS)
            logits = self.layers.shared_logits(shape.x_val[rows])  # [G, R, n, C]
            if shape.offset is not None:
                logits = logits + shape.offset
            index = shape.codes_val[rows].expand(*logits.shape[:3]).unsqueeze(-1)
            losses = torch.logsumexp(logits, -1) - logits.gather(-1, index).squeeze(-1)
            total += losses.double() @ weights[rows]
        found: list[list[float]] = (total / weights.sum()).tolist()
        return found

    def _drop_stopped(self) -> None:
        """Close the gaps: seeds without heads go, the others move to the left."""
        kept = [(g, [r for r, i in enumerate(row) if i != _EMPTY]) for g, row in enumerate(self.slots)]
        kept = [(g, row) for g, row in kept if row]
        n_slots = max((len(row) for _, row in kept), default=0)
        if n_slots == 0 or (len(kept), n_slots) == (len(self.slots), len(self.slots[0])):
            self._group()
            return
        old = (self.layers.weights, self.first, self.second)
        slots, seeds = self.slots, self.seeds
        self.seeds = [seeds[g] for g, _ in kept]
        self.slots = [[slots[g][r] for r in row] + [_EMPTY] * (n_slots - len(row)) for g, row in kept]

        def moved(tensors: Sequence["Tensor"]) -> list[list[list["Tensor"] | None]]:
            return [
                [[tensor[g, r] for tensor in tensors] for r in row] + [None] * (n_slots - len(row))
                for g, row in kept
            ]

        weights, first, second = (moved(tensors) for tensors in old)
        self._allocate(weights)
        _fill(self.first, first)
        _fill(self.second, second)

    def _allocate(self, weights: Sequence[Sequence["list[Tensor] | None"]]) -> None:
        """Weights of all slots in one piece, and moments of zeros."""
        import torch

        like = next(slot for row in weights for slot in row if slot is not None)
        n_seeds, n_slots = len(weights), len(weights[0])
        tensors = [torch.zeros(n_seeds, n_slots, *one.shape, dtype=one.dtype) for one in like]
        _fill(tensors, weights)
        self.layers = (Linear if self.shape.kind == "linear" else Mlp)(tensors, self.shape.dim)
        self.first = [torch.zeros_like(tensor) for tensor in tensors]
        self.second = [torch.zeros_like(tensor) for tensor in tensors]
        self.step_count = torch.tensor(0.0)
        self._group()

    def _group(self) -> None:
        """Slices of weights, gradients and moments by learning rate; neighbours are one slice."""
        import torch

        decays = [[0.0 if i == _EMPTY else self.points[i].weight_decay for i in row] for row in self.slots]
        any_decay = any(value for row in decays for value in row)
        self.decays = torch.tensor(decays, dtype=torch.float64) if any_decay else None
        self.groups: dict[float, tuple[list[Tensor], ...]] = {}
        states = (self.layers.weights, self.layers.gradients_, self.first, self.second)
        for g, row in enumerate(self.slots):
            lrs = [None if i == _EMPTY else self.points[i].lr for i in row]
            for lr, run in groupby(range(len(row)), key=lrs.__getitem__):
                if lr is None:
                    continue
                places = list(run)
                lists = self.groups.setdefault(lr, ([], [], [], []))
                for found, tensors in zip(lists, states, strict=True):
                    found.extend(tensor[g, places[0] : places[-1] + 1] for tensor in tensors)


def _fill(tensors: Sequence["Tensor"], slots: Sequence[Sequence["list[Tensor] | None"]]) -> None:
    for g, row in enumerate(slots):
        for r, values in enumerate(row):
            for tensor, value in zip(tensors, values or (), strict=False):
                tensor[g, r] = value


def _sgd(
    weights: list["Tensor"],
    gradients: list["Tensor"],
    moments: list["Tensor"],
    lr: float,
    momentum: float,
) -> None:
    """As torch.optim.SGD without dampening; its first moment is the first gradient, as from zero."""
    import torch

    torch._foreach_mul_(moments, momentum)
    torch._foreach_add_(moments, gradients)
    torch._foreach_add_(weights, moments, alpha=-lr)
