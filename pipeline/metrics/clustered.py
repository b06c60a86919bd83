"""Means of values that come in clusters, such as crops of one photograph, and how far other clusters would move them.

Shape letters: n values' rows, m measures, G clusters, C classes, B resamples.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix

from deponij.pipeline.metrics.intervals import Interval, percentile_interval, wilson

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
N_RESAMPLES = 2000
# Memory of one block of resamples.
_BLOCK_CELLS = 2_000_000


@dataclass(frozen=True, slots=True)
class Means:
    """Means with intervals: over all rows, over the classes' means, and of each class.

    An interval is None where a single cluster leaves nothing to compare.

    Attributes:
        micro, macro: [m] each. by_class: [C, m].
        micro_intervals, macro_intervals: m each. class_intervals: C times m.
        n_clusters: G.
    """

    micro: Floats
    micro_intervals: tuple[Interval | None, ...]
    macro: Floats
    macro_intervals: tuple[Interval | None, ...]
    by_class: Floats
    class_intervals: tuple[tuple[Interval | None, ...], ...]
    n_clusters: int


def clustered_means(
    values: ArrayLike,
    clusters: ArrayLike,
    classes: ArrayLike,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    confidence: float = 0.95,
) -> Means:
    """Means of values [n, m] in [0, 1], with percentile bootstrap intervals over whole clusters.

    Whole clusters are drawn with replacement, for rows of one cluster are not independent (C. A. Field and
    A. H. Welsh, J. R. Statist. Soc. B 69 (2007) 369-390). Where all rows are 0, or all are 1, there is nothing to
    resample; the interval is then Wilson's for as many trials as there are clusters. A class that a resample has
    none of is left out of that resample's macro mean.

    Args:
        clusters, classes: names or numbers [n].

    Raises:
        ValueError: no values, or lengths that differ.
    """
    rows = np.asarray(values, np.float64)
    if (
        rows.ndim != 2
        or not rows.size
        or not len(rows) == len(np.asarray(clusters)) == len(np.asarray(classes))
    ):
        raise ValueError(f"need values [n, m] with a cluster and a class each, got shape {rows.shape}")
    cluster_codes, n_clusters = _codes(clusters)
    class_codes, n_classes = _codes(classes)
    sums, counts = _totals(rows, cluster_codes, class_codes, n_clusters, n_classes)
    drawn = [_means(*block) for block in _resampled(sums, counts, rows.shape[1], n_resamples, seed)]
    once = np.ones((1, n_clusters))
    micro, macro, by_class = _means(_class_sums(once, sums, rows.shape[1]), _class_counts(once, counts))
    micro_drawn, macro_drawn, class_drawn = (np.concatenate(part) for part in zip(*drawn, strict=True))

    def interval(of: Floats, samples: Floats, n: int) -> Interval | None:
        if n < 2:
            return None
        low, high = of.min(), of.max()
        if low == high and low in (0.0, 1.0):
            return wilson(round(low) * n, n, confidence)
        found = samples[~np.isnan(samples)]
        return percentile_interval(found, confidence) if len(found) else None

    measures = range(rows.shape[1])
    of_class = [rows[class_codes == c] for c in range(n_classes)]
    n_in_class = np.diff(counts.tocsc().indptr)
    return Means(
        micro=micro[0],
        micro_intervals=tuple(interval(rows[:, j], micro_drawn[:, j], n_clusters) for j in measures),
        macro=macro[0],
        macro_intervals=tuple(interval(rows[:, j], macro_drawn[:, j], n_clusters) for j in measures),
        by_class=by_class[0],
        class_intervals=tuple(
            tuple(interval(own[:, j], class_drawn[:, c, j], int(n_in_class[c])) for j in measures)
            for c, own in enumerate(of_class)
        ),
        n_clusters=n_clusters,
    )


def _codes(names: ArrayLike) -> tuple[Codes, int]:
    found, codes = np.unique(np.asarray(names), return_inverse=True)
    return codes.astype(np.int64), len(found)


def _totals(
    rows: Floats, clusters: Codes, classes: Codes, n_clusters: int, n_classes: int
) -> tuple[csr_matrix, csr_matrix]:
    """Each cluster's sums by class and measure [G, C * m], and its rows by class [G, C]."""
    n, m = rows.shape
    places = (np.repeat(clusters, m), (classes[:, None] * m + np.arange(m)).ravel())
    sums = csr_matrix((rows.ravel(), places), shape=(n_clusters, n_classes * m))
    counts = csr_matrix((np.ones(n), (clusters, classes)), shape=(n_clusters, n_classes))
    return sums, counts


def _resampled(
    sums: csr_matrix, counts: csr_matrix, n_measures: int, n_resamples: int, seed: int
) -> Iterator[tuple[Floats, Floats]]:
    """Blocks of class sums [b, C, m] and class counts [b, C]."""
    rng = np.random.default_rng(seed)
    n_clusters = sums.shape[0]
    step = max(1, _BLOCK_CELLS // max(n_clusters, sums.shape[1]))
    for start in range(0, n_resamples, step):
        size = min(step, n_resamples - start)
        drawn = rng.integers(n_clusters, size=(size, n_clusters)) + n_clusters * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * n_clusters).reshape(size, n_clusters)
        weights = times.astype(np.float64)
        yield _class_sums(weights, sums, n_measures), _class_counts(weights, counts)


def _class_sums(weights: Floats, sums: csr_matrix, n_measures: int) -> Floats:
    found: Floats = np.asarray((sums.T @ weights.T).T).reshape(len(weights), -1, n_measures)
    return found


def _class_counts(weights: Floats, counts: csr_matrix) -> Floats:
    found: Floats = np.asarray((counts.T @ weights.T).T)
    return found


def _means(sums: Floats, counts: Floats) -> tuple[Floats, Floats, Floats]:
    """Micro [b, m], macro [b, m] and by class [b, C, m]; NaN for a class without rows."""
    by_class = sums / np.where(counts, counts, np.nan)[:, :, None]
    micro = sums.sum(axis=1) / counts.sum(axis=1)[:, None]
    return micro, np.nanmean(by_class, axis=1), by_class
