"""How heads learn by gradient steps: one point of a grid, the recipe that all points share, the order of batches.

The steps themselves live in `training`, which heads are trained together in `grid`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.cards import Condition, are_positive
from deponij.pipeline.heads.augment import Augmentation

Balance = Literal["none", "class-weights", "balanced-softmax", "logit-adjustment"]


@dataclass(frozen=True, slots=True)
class GridPoint:
    """One head of a grid.

    Attributes:
        features, labels: names of a feature set and of a label set.
        kind: `linear` or `mlp`.
        lr: learning rate of the first step.
        weight_decay: of weights and biases.
        seed: of the first weights and of the order of the examples.
        balance: `none`; `class-weights` (the loss of an example times n / (C x its class's examples));
            `balanced-softmax` (learned with logits + tau x log prior, answered without: Ren et al. 2020,
            and logit adjustment in training, Menon et al. 2021); `logit-adjustment` (learned plainly,
            answered with logits - tau x log prior, Menon et al. 2021).
        tau: how far the last two go; 1 is all the way to equal classes.
    """

    features: str
    labels: str
    kind: str
    lr: float
    weight_decay: float
    seed: int
    balance: str = "none"
    tau: float = 1.0

    def conditions(self) -> tuple[Condition, ...]:
        """What must hold of the values."""
        return (
            (are_positive(self.lr), f"lr must be positive, got {self.lr}"),
            (
                math.isfinite(self.weight_decay) and self.weight_decay >= 0,
                f"weight_decay must be 0 or more, got {self.weight_decay}",
            ),
            (self.seed >= 0, f"seed must be 0 or more, got {self.seed}"),
            (
                self.balance in get_args(Balance),
                f"balance must be one of {', '.join(get_args(Balance))}; got {self.balance!r}",
            ),
            (math.isfinite(self.tau), f"tau must be a number, got {self.tau}"),
        )


@dataclass(frozen=True, slots=True)
class Recipe:
    """What all heads of a grid share; the defaults are of the protocol in docs/taco.md, where it states them.

    Attributes:
        optimiser: `adamw` (betas 0.9 and 0.999, eps 1e-8) or `sgd`.
        epochs: at most.
        batch: examples of one step; the last of an epoch may be smaller.
        patience: epochs without a lower validation loss after which a head stops; None goes to the end.
        final_lr: where the cosine of the learning rate ends.
        momentum: of `sgd`.
        steps_per_epoch: None is once over the training examples; a number cuts an endless stream of
            shuffled examples into full batches.
        per_step: whether the learning rate falls at each step, not each epoch.
        keep: the weights of the epoch with the lowest validation loss, or the `last`.
        init_std: None draws first weights as torch's Linear does, a number from a normal distribution
            around 0, biases 0.
        noise: standard deviation of what is added to the features at each step, in standard deviations of each feature
            over training; of each seed its own.
    """

    optimiser: Literal["adamw", "sgd"] = "adamw"
    epochs: int = 20
    batch: int = 32
    patience: int | None = 5
    final_lr: float = 1e-6
    momentum: float = 0.9
    steps_per_epoch: int | None = None
    per_step: bool = False
    keep: Literal["best", "last"] = "best"
    init_std: float | None = None
    noise: float = 0.0

    def conditions(self) -> tuple[Condition, ...]:
        """What must hold of the values."""
        counts = {name: getattr(self, name) for name in ("epochs", "batch", "patience", "steps_per_epoch")}
        return (
            *((n is None or n >= 1, f"{name} must be 1 or more, got {n}") for name, n in counts.items()),
            (
                math.isfinite(self.final_lr) and self.final_lr >= 0,
                f"final_lr must be 0 or more, got {self.final_lr}",
            ),
            (0 <= self.momentum < 1, f"momentum must be from 0 to below 1, got {self.momentum}"),
            *Augmentation(noise=self.noise).conditions(),
        )

    def n_steps(self, n_train: int) -> int:
        """Steps of one epoch."""
        return self.steps_per_epoch or -(-n_train // self.batch)

    def learning_rate(self, lr: float, step: int, n_train: int) -> float:
        """The cosine from `lr` to `final_lr`, at a step counted from 0 over all epochs."""
        n_steps = self.n_steps(n_train)
        share = step / (n_steps * self.epochs) if self.per_step else step // n_steps / self.epochs
        return self.final_lr + (lr - self.final_lr) * (1 + math.cos(math.pi * share)) / 2


def batches(seed: int, n_train: int, recipe: Recipe) -> Iterator[NDArray[np.int64]]:
    """Rows of each step's examples, over all epochs; they depend on these arguments alone.

    An epoch is one permutation by `numpy.random.default_rng(seed)`, the next one goes on from there.
    """
    generator = np.random.default_rng(seed)
    if recipe.steps_per_epoch is None:
        for _ in range(recipe.epochs):
            order = generator.permutation(n_train)
            for start in range(0, n_train, recipe.batch):
                yield order[start : start + recipe.batch]
        return
    waiting = np.empty(0, dtype=np.int64)
    for _ in range(recipe.epochs * recipe.steps_per_epoch):
        while len(waiting) < recipe.batch:
            waiting = np.concatenate([waiting, generator.permutation(n_train)])
        yield waiting[: recipe.batch]
        waiting = waiting[recipe.batch :]
