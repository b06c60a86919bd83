"""Whether labelling what `deponij suggest` names teaches more than labelling at random.

    .venv/bin/python benchmarks/labelling.py VIEW ITEMS [SEEDS]

Items whose `given` part is train are the pool, all labels hidden; those of test are answered. Each seed starts with some
random labels, the same for both; then batches are labelled, by the suggestions of a logistic regression or at random.
docs/next.md has the table for 2,000 pictures of CIFAR-10's train part and 1,500 of its test part.
"""

import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from deponij.pipeline.heads.softmax_regression import DEFAULT_C, Fitted, fit_path, standardised
from deponij.pipeline.likeness.pairs import Evidence, Likeness
from deponij.pipeline.likeness.suggesting import doubts, suggest
from deponij.store.items import Items
from deponij.store.view import View

FIRST, BATCH, N_BATCHES = 60, 20, 12
Rows = NDArray[np.int64]
Choose = Callable[[Fitted, Rows, Rows, int], Rows]


def main() -> None:
    """Print top-1 by number of labels, and the paired difference with its 95 % interval over seeds."""
    view, items = View(sys.argv[1]), Items(sys.argv[2])
    n_seeds = int(sys.argv[3]) if len(sys.argv) > 3 else 20
    places = [items.places[one] for one in view.ids.tolist()]
    names = np.array([str(items.column("label")[row]) for row in places])
    parts = np.array([str(items.column("given")[row]) for row in places])
    phashes = [items.column("phash")[row] for row in places]
    vectors = view.embedding
    assert vectors is not None
    keys = view.keys.tolist()
    pool, test = np.flatnonzero(parts == "train"), np.flatnonzero(parts == "test")
    standard = standardised(vectors, pool)

    def evidence(rows: Rows) -> Evidence:
        return Evidence([keys[row] for row in rows], [phashes[row] for row in rows], vectors[rows])

    def suggestion(fitted: Fitted, left: Rows, known: Rows, seed: int) -> Rows:
        mine = evidence(left)
        doubt = doubts(fitted.probs(standard[left]))
        return left[suggest(Likeness(mine), Likeness(mine, evidence(known)), doubt, BATCH, seed)]

    def at_random(fitted: Fitted, left: Rows, known: Rows, seed: int) -> Rows:
        return np.random.default_rng(1000 + seed + len(known)).choice(left, BATCH, replace=False)

    def curve(seed: int, choose: Choose) -> list[float]:
        known = np.random.default_rng(seed).choice(pool, FIRST, replace=False)
        shares = []
        for number in range(N_BATCHES + 1):
            fitted = next(fit_path(standard[known], names[known], [DEFAULT_C]))
            shares.append(float((fitted.answers(standard[test]) == names[test]).mean()))
            if number < N_BATCHES:
                left = np.setdiff1d(pool, known)
                known = np.concatenate([known, choose(fitted, left, known, seed)])
        return shares

    both = np.array([[curve(seed, choose) for choose in (suggestion, at_random)] for seed in range(n_seeds)])
    print(f"{n_seeds} seeds, {len(pool):,} in the pool, {len(test):,} answered; top-1 in percent")
    print("labels  suggested  random  difference [95 %]")
    for number in range(N_BATCHES + 1):
        gain = 100 * (both[:, 0, number] - both[:, 1, number])  # [seeds]
        half = student.ppf(0.975, n_seeds - 1) * gain.std(ddof=1) / np.sqrt(n_seeds)
        one, other = 100 * both[:, :, number].mean(axis=0)
        low, high = gain.mean() - half, gain.mean() + half
        print(
            f"{FIRST + BATCH * number:6}  {one:9.1f}  {other:6.1f}  {gain.mean():+.1f} [{low:+.1f}, {high:+.1f}]"
        )


if __name__ == "__main__":
    main()
