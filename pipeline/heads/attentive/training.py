"""How attentive probes of several learning rates are trained side by side, each map being read once for all of them.

What such a probe is and what is kept of it: `head`. The order of the examples and the course of the learning rate are
those of `deponij.pipeline.heads.gradient.recipe`.

Shape letters: b examples of a step, d channels of a token, t tokens, M queries, v width of the values, C classes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.heads.augment import Augmentation, crops, noise_like, some_flipped
from deponij.pipeline.heads.gradient.recipe import Recipe, batches
from deponij.pipeline.heads.head import Floats
from deponij.pipeline.heads.maps import Maps, in_batches, in_order
from deponij.store.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

# Drawn besides the order of the examples, from a stream of its own.
_AUGMENTING = 1


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a probe; `n_values` None: the tokens themselves are the values."""

    dim: int
    n_queries: int
    n_values: int | None
    n_classes: int


@dataclass(slots=True)
class Weights:
    """Of a probe over standardised tokens.

    Attributes:
        queries: [M, d].
        value: [v, d], or None.
        weight, bias: of the classifier, [C, v] and [C].
    """

    queries: "Tensor"
    value: "Tensor | None"
    weight: "Tensor"
    bias: "Tensor"

    @classmethod
    def first(cls, sizes: Sizes, seed: int) -> "Weights":
        """Queries N(0, 0.02) and classifier N(0, 0.01), as in the paper's code; the value map as torch's Linear."""
        import torch

        generator = torch.Generator().manual_seed(seed)
        queries = 0.02 * torch.randn(sizes.n_queries, sizes.dim, generator=generator)
        width, value = sizes.n_values or sizes.dim, None
        if sizes.n_values is not None:
            value = torch.empty(width, sizes.dim)
            torch.nn.init.kaiming_uniform_(value, a=5**0.5, generator=generator)
        weight = 0.01 * torch.randn(sizes.n_classes, width, generator=generator)
        return cls(queries, value, weight, torch.zeros(sizes.n_classes))

    def tensors(self) -> list["Tensor"]:
        """All of them."""
        return [one for one in (self.queries, self.value, self.weight, self.bias) if one is not None]

    def logits(self, tokens: "Tensor", seen: "Tensor | None" = None) -> "Tensor":
        """[b, C] of standardised tokens [b, d, t], of which those are seen that a mask [b, t] says."""
        scores = (self.queries * self.queries.shape[1] ** -0.5) @ tokens  # [b, M, t]
        if seen is not None:
            scores = scores.masked_fill(~seen[:, None], float("-inf"))
        attention, n_queries = scores.softmax(-1), len(self.queries)
        if self.value is None:
            slices = tokens.view(len(tokens), n_queries, -1, tokens.shape[2])  # [b, M, d / M, t]
            pooled = (slices @ attention[..., None]).flatten(1)  # [b, d]
        else:
            # The value map is linear: what it makes of gathered tokens is what would be gathered of mapped ones.
            gathered = attention @ tokens.transpose(1, 2)  # [b, M, d]
            maps = self.value.view(n_queries, -1, tokens.shape[1])  # [M, v / M, d]
            pooled = (maps @ gathered[..., None]).flatten(1)  # [b, v]
        logits: Tensor = pooled @ self.weight.T + self.bias
        return logits

    def copy(self) -> "Weights":
        """Of its own memory, without gradients."""
        value = None if self.value is None else self.value.detach().clone()
        queries, weight, bias = (one.detach().clone() for one in (self.queries, self.weight, self.bias))
        return Weights(queries, value, weight, bias)


@dataclass(slots=True)
class Trained:
    """One probe after training.

    Attributes:
        weights: of the epoch with the lowest validation loss; without validation the last.
        best_epoch: that epoch, from 1; 0 if none gave finite numbers.
        n_epochs: how many were run.
        logits: of the validation examples by these weights, [n_val, C].
    """

    weights: Weights
    best_epoch: int = 0
    n_epochs: int = 0
    val_loss: float = float("nan")
    logits: Floats = field(default_factory=lambda: np.empty((0, 0)))


@dataclass(frozen=True, slots=True)
class Tokens:
    """Examples to learn from or to choose by.

    Attributes:
        maps: [n, d, h, w].
        codes: class numbers [n], -1 for classes that training lacks.
        flipped: maps of the mirrored pictures, or None.
    """

    maps: Maps
    codes: NDArray[np.int64]
    flipped: Maps | None = None


@dataclass(frozen=True, slots=True)
class Moments:
    """Of each channel over all tokens of training: float32 [d, 1]; constant channels have deviation 1."""

    mean: "Tensor"
    deviation: "Tensor"


def moments_of(maps: Maps) -> Moments:
    """Of training maps.

    Raises:
        DataError: values that are NaN or infinite, or maps that are the same for every example.
    """
    import torch

    first, total, squares, differs = None, np.zeros(maps.shape[1]), np.zeros(maps.shape[1]), False
    for _, values in in_order(maps, "training features"):
        tokens = values.astype(np.float64)
        if first is None:
            # Sums of squares around a value that lies among them lose no digits.
            first, about = values[0], tokens.mean(axis=(0, 2, 3), keepdims=True)
        differs = differs or bool((values != first).any())
        total += (tokens - about).sum(axis=(0, 2, 3))
        squares += ((tokens - about) ** 2).sum(axis=(0, 2, 3))
    if not differs and len(maps) > 1:
        raise DataError(
            f"all {len(maps)} training examples have the same (constant) features; nothing can be learned from them. "
            "Does the view hold what it should?"
        )
    n = len(maps) * int(np.prod(maps.shape[2:]))
    deviation = np.sqrt(np.maximum(squares / n - (total / n) ** 2, 0))
    deviation[deviation == 0] = 1
    mean = about[0, :, 0, 0] + total / n
    return Moments(*(torch.from_numpy(one.astype(np.float32))[:, None] for one in (mean, deviation)))


def train_probes(
    train: Tokens,
    val: Tokens | None,
    sizes: Sizes,
    recipe: Recipe,
    lrs: Sequence[float],
    weight_decay: float,
    seed: int,
    augmentation: Augmentation,
    moments: Moments,
) -> list[Trained]:
    """Train one probe for each learning rate, from the same first weights and on the same batches, on one thread.

    Raises:
        DataError: validation maps are NaN or infinite.
    """
    with one_thread():
        runs = [_Run(Weights.first(sizes, seed), lr, weight_decay) for lr in lrs]
        order, drawn = batches(seed, len(train.codes), recipe), np.random.default_rng([seed, _AUGMENTING])
        n_steps = recipe.n_steps(len(train.codes))
        for epoch in range(1, recipe.epochs + 1):
            active = [run for run in runs if recipe.patience is None or run.waited < recipe.patience]
            if not active:
                break
            steps = [next(order) for _ in range(n_steps)]
            for number, (tokens, seen, codes) in enumerate(_seen(train, steps, moments, augmentation, drawn)):
                step = (epoch - 1) * n_steps + number
                for run in active:
                    run.step(tokens, seen, codes, recipe.learning_rate(run.lr, step, len(train.codes)))
            for run, logits in zip(active, _answers(active, val, moments), strict=True):
                run.judge(epoch, logits, val)
    return [run.trained for run in runs]


@contextmanager
def one_thread() -> Iterator[None]:
    """The same bytes whatever the machine's count of cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Run:
    """One probe in training."""

    def __init__(self, weights: Weights, lr: float, weight_decay: float) -> None:
        import torch

        self.lr, self.weights, self.waited = lr, weights, 0
        self.trained = Trained(weights.copy())
        tensors = [one.requires_grad_() for one in weights.tensors()]
        self.optimiser = torch.optim.AdamW(tensors, lr=lr, weight_decay=weight_decay)

    def step(self, tokens: "Tensor", seen: "Tensor | None", codes: "Tensor", lr: float) -> None:
        import torch

        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(self.weights.logits(tokens, seen), codes)
        torch.autograd.backward(loss)
        self.optimiser.step()

    def judge(self, epoch: int, logits: Floats, val: Tokens | None) -> None:
        """Note the weights if they are the best so far; without validation they are."""
        trained = self.trained
        trained.n_epochs = epoch
        if not all(one.isfinite().all() for one in self.weights.tensors()):
            self.waited += 1
            return
        loss = float("nan") if val is None else _log_loss(logits, val.codes)
        better = val is None or not loss >= trained.val_loss
        self.waited = 0 if better else self.waited + 1
        if better:
            trained.weights, trained.best_epoch, trained.val_loss = self.weights.copy(), epoch, loss
            trained.logits = logits


def _seen(
    train: Tokens,
    steps: Sequence[NDArray[np.int64]],
    moments: Moments,
    augmentation: Augmentation,
    generator: np.random.Generator,
) -> Iterator[tuple["Tensor", "Tensor | None", "Tensor"]]:
    """Of each step: standardised tokens [b, d, t], which of them are seen [b, t], and class numbers [b]."""
    import torch

    flips = None if train.flipped is None else in_batches(train.flipped, steps)
    for rows, stored in in_batches(train.maps, steps):
        maps = stored if flips is None else some_flipped(stored, next(flips)[1], generator)
        seen = None
        if augmentation.crop < 1:
            height, width = maps.shape[2:]
            shown = crops(len(rows), height, width, augmentation.crop, generator)
            seen = torch.from_numpy(shown.reshape(len(rows), -1))
        tokens = standardised(maps, moments)
        if augmentation.noise:
            tokens = tokens + augmentation.noise * noise_like(tokens, generator)
        yield tokens, seen, torch.from_numpy(train.codes[rows])


def standardised(maps: Floats, moments: Moments) -> "Tensor":
    """Maps [b, d, h, w] as tokens [b, d, t], float32, each channel by its mean and deviation."""
    import torch

    tokens = torch.from_numpy(np.ascontiguousarray(maps, np.float32)).flatten(2)
    return (tokens - moments.mean) / moments.deviation


def _answers(runs: Sequence[_Run], val: Tokens | None, moments: Moments) -> list[Floats]:
    """Validation logits of each run [n_val, C], float64."""
    import torch

    answers: list[list[Floats]] = [[] for _ in runs]
    with torch.no_grad():
        for _, maps in () if val is None else in_order(val.maps, "validation features"):
            tokens = standardised(maps, moments)
            for run, rows in zip(runs, answers, strict=True):
                rows.append(run.weights.logits(tokens).double().numpy())
    return [np.concatenate(rows) if rows else np.empty((0, 0)) for rows in answers]


def _log_loss(logits: Floats, codes: NDArray[np.int64]) -> float:
    """Mean over the examples whose class training has; infinite where it is no number."""
    import torch

    known = np.flatnonzero(codes >= 0)
    loss = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits[known]), torch.from_numpy(codes[known])
    ).item()
    return loss if np.isfinite(loss) else float("inf")
