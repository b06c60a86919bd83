"""Outliers: items that are far from all others, and items that lie among another class.

The score is the cosine distance to the k-th nearest other (Ramaswamy, Rastogi, Shim: "Efficient Algorithms for Mining
Outliers from Large Data Sets", SIGMOD 2000; with features of deep networks normalised as here: Sun et al., "Out-of-
Distribution Detection with Deep Nearest Neighbors", ICML 2022). The k-th and not the mean of k: up to k - 1 near-
duplicates do not hide an item that is odd, and the figure reads by itself: fewer than k things are nearer than this.

Shape letters: n items, d width, k neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.likeness.others import Advance, Others, Tags, cosine_blocks, nearest_in
from deponij.pipeline.unit_vectors import Vectors
from deponij.store.errors import UsageError

UNLABELLED = -1
_SHARES = (0.5, 0.75, 0.9, 0.95, 0.99, 1.0)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What each of n items has around it.

    Attributes:
        others: its k nearest.
        n_labelled, n_same: of the k, those with a label and those with its own, int64 [n]; None without labels.
        nearest_same, nearest_different: distance to the nearest of its own and of another class, float32 [n];
            infinite where there is none.
    """

    others: Others
    n_labelled: NDArray[np.int64] | None = None
    n_same: NDArray[np.int64] | None = None
    nearest_same: NDArray[np.float32] | None = None
    nearest_different: NDArray[np.float32] | None = None

    @property
    def scores(self) -> NDArray[np.float32]:
        """Cosine distance to the k-th nearest other, [n]."""
        return self.others.kth

    @property
    def is_misplaced(self) -> NDArray[np.bool_]:
        """Labelled, with k labelled neighbours not one of which has its label, [n]."""
        if self.n_labelled is None or self.n_same is None or self.nearest_same is None:
            return np.zeros(len(self.scores), bool)
        k = self.others.rows.shape[1]
        # Of a class that nobody else has, no neighbour could be.
        misplaced: NDArray[np.bool_] = (
            (self.n_labelled == k) & (self.n_same == 0) & np.isfinite(self.nearest_same)
        )
        return misplaced


def look_around(
    units: Vectors,
    k: int,
    tags: Sequence[Tags] = (),
    labels: Tags | None = None,
    advance: Advance = lambda _: None,
) -> Surroundings:
    """The k nearest others of each item, and how its class lies among them.

    Args:
        units: [n, d], of unit length.
        tags: [n] each; items that share one (the picture's key, the photograph) are not each other's neighbours.
            An item shares all of its own with itself, so at least one is needed.
        labels: [n], number of the class, `UNLABELLED` for none.

    Raises:
        UsageError: fewer than k others count for an item.
    """
    if k < 1:
        raise UsageError(f"ask for at least 1 neighbour, got {k}")
    n = len(units)
    tags = tags or (np.arange(n, dtype=np.int32),)
    classes = None if labels is None else _Classes(labels)
    # Columns in the order of the classes, so that each class is one run of them.
    order = np.arange(n) if classes is None else classes.order
    others = Others(np.empty((n, k), np.float32), np.empty((n, k), np.int64))
    same, different = (np.full(n, np.inf, np.float32) for _ in range(2))
    for rows, cosines in cosine_blocks(units, units[order], [(one, one[order]) for one in tags]):
        others.distances[rows], columns = nearest_in(cosines, k)
        others.rows[rows] = order[columns]
        if classes is not None:
            same[rows], different[rows] = classes.nearest(cosines, rows)
        advance(rows.stop - rows.start)
    if labels is None:
        return Surroundings(others)
    around, is_labelled = labels[others.rows], labels != UNLABELLED
    n_labelled = np.where(is_labelled, (around != UNLABELLED).sum(axis=1), 0)
    n_same = np.where(is_labelled, (around == labels[:, None]).sum(axis=1), 0)
    return Surroundings(others, n_labelled, n_same, same, different)


class _Classes:
    """Runs of columns of one class each."""

    def __init__(self, labels: Tags) -> None:
        self.order = np.argsort(labels, kind="stable")
        self._names, self._starts, self._place = np.unique(
            labels[self.order], return_index=True, return_inverse=True
        )
        self._place_of_row = np.empty(len(labels), np.int64)
        self._place_of_row[self.order] = self._place

    def nearest(self, cosines: Vectors, rows: slice) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Distance of each row [b] to the nearest of its own class and of another; infinite where there is none."""
        best = np.maximum.reduceat(cosines, self._starts, axis=1)  # [b, classes]
        best[:, self._names == UNLABELLED] = -np.inf
        own = self._place_of_row[rows, None]
        same = np.take_along_axis(best, own, axis=1)[:, 0]
        np.put_along_axis(best, own, -np.inf, axis=1)
        # Who has no label has no other class either.
        different = np.where(self._names[own[:, 0]] == UNLABELLED, -np.inf, best.max(axis=1))
        return _distances(same), _distances(different)


def _distances(cosines: NDArray[np.float32]) -> NDArray[np.float32]:
    distances: NDArray[np.float32] = np.where(np.isfinite(cosines), np.clip(1 - cosines, 0, 2), np.inf)
    return distances.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Spread:
    """How scores are spread.

    Attributes:
        quantiles: (share, score that this share of the items does not exceed).
        fence: upper quartile plus one and a half of the distance between the quartiles (Tukey 1977).
        n_beyond: items beyond the fence.
    """

    quantiles: tuple[tuple[float, float], ...]
    fence: float
    n_beyond: int


def spread_of(scores: NDArray[np.float32]) -> Spread:
    """Quantiles, and how many stand out from the rest.

    Args:
        scores: [n], n >= 1.
    """
    exact = scores.astype(np.float64)
    values = np.quantile(exact, _SHARES)
    low, high = np.quantile(exact, [0.25, 0.75])
    fence = float(high + 1.5 * (high - low))
    return Spread(tuple(zip(_SHARES, values.tolist(), strict=True)), fence, int((exact > fence).sum()))
