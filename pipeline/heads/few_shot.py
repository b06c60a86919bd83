"""A few examples of each class: drawing them, for learning curves too, and what k-NN makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from deponij.pipeline.heads.examples import Examples
from deponij.pipeline.heads.head import Floats, Names
from deponij.pipeline.metrics.clustered import mean_of_runs
from deponij.store.scratch import taken

if TYPE_CHECKING:
    from deponij.pipeline.heads.knn import NearestNeighbours


def draw(names: Names, per_class: int, seed: int) -> NDArray[np.int64]:
    """Rows of `per_class` examples of each class of names [n], ascending; all of a class that has fewer.

    Raises:
        ValueError: fewer than one example is wanted.
    """
    if per_class < 1:
        raise ValueError(f"draw at least one example of each class, not {per_class}")
    generator = np.random.default_rng(seed)
    # Every class is permuted whole, so that a larger draw of the same seed holds the smaller ones.
    chosen = [generator.permutation(np.flatnonzero(names == name))[:per_class] for name in np.unique(names)]
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, dtype=np.int64)


def draw_share(names: Names, share: float, seed: int) -> NDArray[np.int64]:
    """Rows of this share of the examples of each class of names [n], at least one of each, ascending.

    A larger share of the same seed holds the smaller ones.
    """
    generator = np.random.default_rng(seed)
    chosen = []
    for name in np.unique(names):
        rows = generator.permutation(np.flatnonzero(names == name))
        chosen.append(rows[: max(1, round(share * len(rows)))])
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, dtype=np.int64)


def few_shot(
    head: NearestNeighbours, X: Floats, examples: Examples, per_class: Sequence[int], tries: int
) -> list[JsonValue]:
    """Scores on test with a few examples of each class, averaged over tries, by number of examples and k.

    Each record has `per_class` (a class that has fewer gives all it has), `n_train` and `n_test`, `tries`, `k` and
    whether it was `chosen` (the best one for this many examples on validation; without validation the head's usual
    one), `top1` and `balanced_accuracy` (means over the tries), `top1_std` (n - 1; None of a single try), and
    `top1_interval` and `balanced_interval` (95 %, over the test items' `n_groups` and the tries; None for too few).

    Args:
        head: whose parameters are used; it learns nothing here.
        X: features [n, d] of the examples.
    """
    if len(examples.rows("test")) == 0:
        return []
    return [one for n in sorted(set(per_class)) for one in _shots(head, X, examples, n, tries)]


def _shots(
    head: NearestNeighbours, X: Floats, examples: Examples, per_class: int, tries: int
) -> list[JsonValue]:
    """One count of examples: each k's means over the tries, of folds over all that they test."""
    names, test = examples.labels, examples.rows("test")
    val_top1: dict[int, list[float]] = {}
    hits: dict[int, NDArray[np.bool_]] = {}
    for rotation in examples.rotations():
        train, val, tested = (rotation.rows(part) for part in ("train", "val", "test"))
        for seed in range(tries):
            rows = train[draw(names[train], per_class, seed)]
            learned = type(head)(**head.get_params()).fit(X[rows], names[rows])
            usual = learned.k_
            for k, logits in learned.decisions(taken(X, np.concatenate([val, tested]))).items():
                answers = learned.classes_[logits.argmax(axis=1)]
                if len(val):
                    val_top1.setdefault(k, []).append(float((answers[: len(val)] == names[val]).mean()))
                right = hits.setdefault(k, np.zeros((tries, len(names)), dtype=bool))
                right[seed, tested] = answers[len(val) :] == names[tested]
    chosen = min(val_top1, key=lambda k: (-float(np.mean(val_top1[k])), k)) if val_top1 else usual
    means = {
        k: mean_of_runs([*of_tries[:, test]], examples.groups[test], names[test])
        for k, of_tries in hits.items()
    }
    return [
        {
            "per_class": per_class,
            "n_train": len(rows),
            "n_test": len(test),
            "tries": tries,
            "k": k,
            "chosen": k == chosen,
            "n_groups": top1.n_clusters,
            "top1": top1.value,
            "top1_std": top1.std,
            "top1_interval": None if top1.interval is None else [*top1.interval],
            "balanced_accuracy": balanced.value,
            "balanced_interval": None if balanced.interval is None else [*balanced.interval],
        }
        for k, (top1, balanced) in means.items()
    ]
