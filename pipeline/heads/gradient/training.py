"""Heads of one shape trained together, step by step. Which heads those are: `grid`.

Of one seed all see the same batch, so that a step is one product over all of them; of several each has its own, in one
batched product. Gradients are written out by hand (`layers`). A head that has stopped leaves the computation.

Shape letters: R heads, b examples of a step, n validation examples, d feature width with the 1 and zeros up to a
multiple of 16, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.heads.augment import noise_like
from deponij.pipeline.heads.gradient.layers import Linear, Mlp, first_weights, softmax
from deponij.pipeline.heads.gradient.recipe import GridPoint, Recipe, batches

if TYPE_CHECKING:
    from torch import Tensor

_VAL_ROWS = 512
# Noise is drawn from a stream of its own, so that it changes no order.
_NOISE = 1


@dataclass(frozen=True, slots=True)
class Shape:
    """What heads must share to be trained together, and their data.

    Attributes:
        kind: `linear` or `mlp`.
        x, codes: training examples: [n_train, d] ending with 1, and class numbers.
        x_val, codes_val: validation examples of known classes; empty where there are none.
        dim: feature width without the 1.
        n_classes: C.
        class_weights: of the loss, [C], or None.
        offset: added to logits while learning, [C], or None.
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
    """Train heads of one shape together, on one thread; equal learning rates are neighbours in `points`."""
    import torch

    with torch.no_grad():
        return _Run(shape, points, recipe).train()


class _Run:
    """One training: the heads that are still in it, their weights and moments, and what became of each."""

    layers: Linear

    def __init__(self, shape: Shape, points: Sequence[GridPoint], recipe: Recipe) -> None:
        import torch

        self.shape, self.points, self.recipe = shape, points, recipe
        self.n_train = len(shape.codes)
        self.trained = [Trained() for _ in points]
        self.waited = [0] * len(points)
        self.onehot = torch.nn.functional.one_hot(shape.codes, shape.n_classes).to(shape.x.dtype)
        if shape.class_weights is not None:
            self.example_weights = shape.class_weights[shape.codes]
        first = [
            first_weights(shape.kind, shape.dim, shape.n_classes, point.seed, recipe.init_std, shape.x.dtype)
            for point in points
        ]
        weights = [torch.stack(layer) for layer in zip(*first, strict=True)]
        self.step_count = torch.tensor(0.0)
        if recipe.noise:
            self._deviation = recipe.noise * shape.x.std(0, correction=0)
            self._drawn = {point.seed: np.random.default_rng([point.seed, _NOISE]) for point in points}
        self._hold(list(range(len(points))), weights, *map(_zeros, (weights, weights)))
        for r, head in enumerate(self.trained):
            head.weights = self._weights(r)

    def train(self) -> list[Trained]:
        streams = {point.seed: batches(point.seed, self.n_train, self.recipe) for point in self.points}
        n_steps = self.recipe.n_steps(self.n_train)
        for epoch in range(1, self.recipe.epochs + 1):
            for step in range((epoch - 1) * n_steps, epoch * n_steps):
                rows = {seed: next(stream) for seed, stream in streams.items()}
                of_heads = [rows[self.points[place].seed] for place in self.places]
                self._step(of_heads[0] if len(rows) == 1 else np.stack(of_heads), step)
            kept = self._judge(epoch)
            if not kept:
                break
            if len(kept) < len(self.places):
                states = (self.layers.weights, self.first, self.second)
                self._hold(
                    [self.places[r] for r in kept], *([one[kept] for one in state] for state in states)
                )
        return self.trained

    def _hold(
        self, places: list[int], weights: list["Tensor"], first: list["Tensor"], second: list["Tensor"]
    ) -> None:
        """Go on with these points, in slices of equal learning rate, of which points are neighbours."""
        self.places, self.first, self.second = places, first, second
        self.layers = (Linear if self.shape.kind == "linear" else Mlp)(weights, self.shape.dim)
        points = [self.points[place] for place in places]
        self.decays = np.array([point.weight_decay for point in points])
        states = (weights, self.layers.gradients_, first, second)
        self.slices: list[tuple[float, list[list[Tensor]]]] = []
        for lr, run in groupby(range(len(points)), key=lambda r: points[r].lr):
            rows = list(run)
            part = slice(rows[0], rows[-1] + 1)
            self.slices.append((lr, [[tensor[part] for tensor in state] for state in states]))

    # -------------------------------------------------------------- one step

    def _step(self, rows: NDArray[np.int64], step: int) -> None:
        """Learn from rows [b] that all heads see, or [R, b] of each head."""
        import torch

        chosen = torch.from_numpy(rows)
        x = self._noisy(_of(self.shape.x, chosen))  # [b, d] or [R, b, d]
        logits = self.layers.logits(x)  # [R, b, C]
        if self.shape.offset is not None:
            logits = logits + self.shape.offset
        # d loss / d logits of cross-entropy is softmax - onehot, each example by its share of the batch.
        errors = softmax(logits)
        errors -= _of(self.onehot, chosen)
        if self.shape.class_weights is None:
            errors *= 1 / rows.shape[-1]
        else:
            shares = _of(self.example_weights, chosen)
            errors *= (shares / shares.sum(-1, keepdim=True)).unsqueeze(-1)
        self.layers.gradients(x, errors)
        self._update(step)

    def _noisy(self, x: "Tensor") -> "Tensor":
        """Examples [b, d] of one seed or [R, b, d] of several, augmented; columns of ones and zeros do not vary."""
        import torch

        if not self.recipe.noise:
            return x
        if x.dim() == 2:
            return x + self._deviation * noise_like(x, self._drawn[self.points[self.places[0]].seed])
        # Heads of one seed see the same.
        drawn = {seed: noise_like(x[0], self._drawn[seed]) for seed in self._seeds()}
        return x + self._deviation * torch.stack([drawn[self.points[place].seed] for place in self.places])

    def _seeds(self) -> list[int]:
        """Of the heads that are still in it, each once."""
        return list(dict.fromkeys(self.points[place].seed for place in self.places))

    def _update(self, step: int) -> None:
        import torch

        self.step_count.fill_(step + 1)
        rates = [self.recipe.learning_rate(lr, step, self.n_train) for lr, _ in self.slices]
        if self.decays.any():
            self._decay(rates)
        for rate, (_, (weights, gradients, first, second)) in zip(rates, self.slices, strict=True):
            if self.recipe.optimiser == "sgd":
                _sgd(weights, gradients, first, rate, self.recipe.momentum)
                continue
            # What torch.optim.adamw.adamw(fused=True) calls, whose bookkeeping makes a step a fifth longer.
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

    def _decay(self, rates: Sequence[float]) -> None:
        """Weight decay of all heads at once: AdamW's before the step, SGD's as a part of the gradient."""
        import torch

        is_sgd = self.recipe.optimiser == "sgd"
        lrs = np.repeat(rates, [len(state[0][0]) for _, state in self.slices])
        factors = torch.from_numpy(self.decays if is_sgd else 1 - lrs * self.decays).view(-1, 1, 1)
        for weights, gradients in zip(self.layers.weights, self.layers.gradients_, strict=True):
            if is_sgd:
                gradients.addcmul_(weights, factors.to(weights.dtype))
            else:
                weights.mul_(factors.to(weights.dtype))

    # -------------------------------------------------------------- after an epoch

    def _judge(self, epoch: int) -> list[int]:
        """Note validation losses and the best weights; the heads that go on."""
        losses = self._val_losses()
        for r in range(len(self.places)):
            self._note(r, epoch, None if losses is None else losses[r])
        patience = self.recipe.patience
        return [r for r, i in enumerate(self.places) if patience is None or self.waited[i] < patience]

    def _note(self, r: int, epoch: int, loss: float | None) -> None:
        i = self.places[r]
        head = self.trained[i]
        head.n_epochs = epoch
        better = loss is not None and np.isfinite(loss) and not loss >= head.val_loss
        self.waited[i] = 0 if better or loss is None else self.waited[i] + 1
        if better or self.recipe.keep == "last" or loss is None:
            weights = self._weights(r)
            if all(np.isfinite(layer).all() for layer in weights):
                head.weights, head.best_epoch = weights, epoch
                head.val_loss = float("nan") if loss is None else loss

    def _weights(self, r: int) -> list[NDArray[np.floating]]:
        layers = zip(self.layers.weights, self.layers.widths, strict=True)
        return [tensor[r, :, : width + 1].numpy().copy() for tensor, width in layers]

    def _val_losses(self) -> list[float] | None:
        """Mean loss of each head, as in training, over validation examples."""
        import torch

        shape = self.shape
        n = len(shape.codes_val)
        if n == 0:
            return None
        weights = torch.ones(n, dtype=torch.float64)
        if shape.class_weights is not None:
            weights = shape.class_weights[shape.codes_val].double()
        total = torch.zeros(len(self.places), dtype=torch.float64)
        for start in range(0, n, _VAL_ROWS):
            rows = slice(start, start + _VAL_ROWS)
            logits = self.layers.logits(shape.x_val[rows])  # [R, n, C]
            if shape.offset is not None:
                logits = logits + shape.offset
            index = shape.codes_val[rows].expand(*logits.shape[:2]).unsqueeze(-1)
            losses = torch.logsumexp(logits, -1) - logits.gather(-1, index).squeeze(-1)
            total += losses.double() @ weights[rows]
        of_runs: list[float] = (total / weights.sum()).tolist()
        return of_runs


def _of(tensor: "Tensor", rows: "Tensor") -> "Tensor":
    """`tensor[rows]`, which takes longer."""
    return tensor.index_select(0, rows.flatten()).view(*rows.shape, *tensor.shape[1:])


def _zeros(tensors: Sequence["Tensor"]) -> list["Tensor"]:
    import torch

    return [torch.zeros_like(tensor) for tensor in tensors]


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
