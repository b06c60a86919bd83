"""Intervals for shares of counted items. Comparisons of two models on the same items: `paired`.

Shape letters: S seeds, n items, B resamples.
"""

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Interval = tuple[float, float]
N_RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class SeedMean:
    """Accuracy of one recipe over its seeds, on the same items.

    Attributes:
        n_seeds, n: seeds and items.
        mean: over seeds and items.
        std: sample standard deviation (n_seeds - 1) of the seeds' accuracies; None for one seed. It tells
            how much training wobbles,
        interval: (low, high) tells how much the choice of items does.
        kind: `bootstrap` over items, or `wilson` where there is nothing to resample: one seed, or all
            items answered alike.
    """

    n_seeds: int
    n: int
    mean: float
    std: float | None
    interval: Interval
    kind: Literal["bootstrap", "wilson"]


def seed_mean(
    hits: ArrayLike, confidence: float = 0.95, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> SeedMean:
    """Mean accuracy of hits [S, n], with a percentile bootstrap over items of the seeds' mean.

    Resampled are items, each with the answers of all seeds, for these are not independent of each other.

    Raises:
        ValueError: not S >= 1 rows of n >= 1 items.
    """
    right = np.asarray(hits, dtype=np.bool_)
    if right.ndim != 2 or right.size == 0:
        raise ValueError(f"need hits [seeds, items] of at least one each, got shape {right.shape}")
    n_seeds, n = right.shape
    # Counts, not shares: equal sums are equal numbers, whatever the order of adding.
    n_right = right.sum(axis=0)
    total = int(n_right.sum())
    std = float(right.mean(axis=1).std(ddof=1)) if n_seeds > 1 else None
    if n_seeds == 1 or n_right.min() == n_right.max():
        interval = wilson(round(total / n_seeds), n, confidence)
        return SeedMean(n_seeds, n, total / right.size, std, interval, "wilson")
    low, high = percentile_interval(resampled_means(n_right, n_resamples, seed) / n_seeds, confidence)
    return SeedMean(n_seeds, n, total / right.size, std, (low, high), "bootstrap")


def resampled_means(values: ArrayLike, n_resamples: int = N_RESAMPLES, seed: int = 0) -> NDArray[np.float64]:
    """Means [B] of n of the values [n], drawn with replacement; deterministic by seed.

    How often each *distinct* value is drawn is multinomial, so that hits and their differences, which
    take few values, cost B x few instead of B x n. The order of the values does not matter.

    Raises:
        ValueError: there are no values.
    """
    distinct, counts = np.unique(np.asarray(values), return_counts=True)
    n = int(counts.sum())
    if n == 0:
        raise ValueError("there is nothing to resample")
    drawn = np.random.default_rng(seed).multinomial(n, counts / n, size=n_resamples)
    means: NDArray[np.float64] = drawn @ distinct.astype(np.float64) / n
    return means


def percentile_interval(samples: NDArray[np.floating], confidence: float = 0.95) -> Interval:
    """The middle `confidence` of samples, as (low, high)."""
    low, high = np.quantile(samples, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def wilson(n_hits: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for the share `n_hits / n`, as (low, high) in [0, 1].

    Source: E. B. Wilson, JASA 22 (1927) 209-212; method 3 of R. G. Newcombe, Statistics in
    Medicine 17 (1998) 857-872. With n = 0 nothing is known, and (0, 1) is returned.

    Raises:
        ValueError: not 0 <= n_hits <= n, or a confidence outside (0, 1).
    """
    if not 0 <= n_hits <= n:
        raise ValueError(f"need 0 <= n_hits <= n, got n_hits = {n_hits}, n = {n}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = n_hits / n
    centre = share + z * z / (2 * n)
    spread = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = ((centre + side * spread) / (1 + z * z / n) for side in (-1, 1))
    # At the ends the exact bound is 0 or 1; rounding must not push it past.
    return (0.0 if n_hits == 0 else max(0.0, low)), (1.0 if n_hits == n else min(1.0, high))
