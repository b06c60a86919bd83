"""Heads of several seeds, each kind's learning rate chosen on validation; trained in two batched rounds.

How one round is computed lives in `grid`; what the heads reach on test is none of this module's business.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.heads.gradient.grid import GridPoint, Recipe, fit_grid
from deponij.pipeline.heads.gradient.head import GradientHead
from deponij.pipeline.heads.head import Floats, Names


@dataclass(frozen=True, slots=True)
class SeededPlan:
    """A head to learn with every seed.

    Attributes:
        features, labels: names of a feature set and of a label set.
        kind: of the head, as `GridPoint.kind`.
        lrs: learning rates; of several the one with the lowest validation loss under the first seed
            is taken for all seeds.
    """

    features: str
    labels: str
    kind: str
    lrs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Seeded:
    """What became of it.

    Attributes:
        lr: the learning rate of all its heads.
        tried: learning rate and validation loss under the first seed, where there was a choice.
        heads: one for each seed, in the order of the seeds.
    """

    lr: float
    tried: tuple[tuple[float, float], ...]
    heads: tuple[GradientHead, ...]

    @property
    def protocol(self) -> str:
        """In words: what the heads were learned from, and how the rate was chosen."""
        words = self.heads[0].protocol
        if len(self.heads) > 1:
            words = f"{len(self.heads)} seeds, of which the first: {words}"
        if self.tried:
            rates = ", ".join(f"{lr:g}" for lr, _ in self.tried)
            words += f"; learning rate of {rates} by the first seed's validation loss"
        return words


def n_heads(plans: Sequence[SeededPlan], n_seeds: int) -> int:
    """How many heads `fit_seeds` trains: all seeds with one rate, and the other rates once."""
    return sum(len(one.lrs) + n_seeds - 1 for one in plans)


def fit_seeds(
    plans: Sequence[SeededPlan],
    features: Mapping[str, Floats],
    labels: Mapping[str, Names],
    train: NDArray[np.integer],
    val: NDArray[np.integer],
    *,
    recipe: Recipe,
    seeds: Sequence[int],
    weight_decay: float,
    balance: str = "none",
    threads: int = 1,
    advance: Callable[[int], None] | None = None,
) -> dict[SeededPlan, Seeded]:
    """Train every planned head with every seed.

    The first round trains all rates of those that have a choice with the first seed alone, and the
    others with all seeds; the second round trains the rest. So a choice of two costs one head more,
    not twice the heads.

    Args:
        features: name -> [n, d_i], the same items in the same order.
        labels: name -> class names [n].
        train, val: rows to learn from and to choose on.
        recipe: how a head learns, the learning rate aside.
        advance: told how many more heads are trained, of `n_heads`.

    Raises:
        DataError: as `fit_grid`.
    """

    def point(one: SeededPlan, lr: float, seed: int) -> GridPoint:
        return GridPoint(one.features, one.labels, one.kind, lr, weight_decay, seed, balance)

    def fit(points: Sequence[GridPoint]) -> dict[GridPoint, GradientHead]:
        told = 0

        def progress(n_done: int, _: int) -> None:
            nonlocal told
            if advance is not None:
                advance(n_done - told)
            told = n_done

        heads = fit_grid(points, features, labels, train, val, recipe, threads=threads, progress=progress)
        return dict(zip(points, heads, strict=True))

    first = [
        point(one, lr, seed)
        for one in plans
        for lr in one.lrs
        for seed in (seeds[:1] if len(one.lrs) > 1 else seeds)
    ]
    fitted = fit(first)
    tried = {one: tuple((lr, _val_loss(fitted[point(one, lr, seeds[0])])) for lr in one.lrs) for one in plans}
    chosen = {one: min(pairs, key=lambda pair: (pair[1], pair[0]))[0] for one, pairs in tried.items()}
    missing = [point(one, chosen[one], seed) for one in plans if len(one.lrs) > 1 for seed in seeds[1:]]
    if missing:
        fitted |= fit(missing)
    return {
        one: Seeded(
            chosen[one],
            tried[one] if len(one.lrs) > 1 else (),
            tuple(fitted[point(one, chosen[one], seed)] for seed in seeds),
        )
        for one in plans
    }


def _val_loss(head: GradientHead) -> float:
    """Validation loss of a fitted head; one that diverged is worse than any other."""
    return head.val_loss_ if np.isfinite(head.val_loss_) else float("inf")
