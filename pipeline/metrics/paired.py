"""Two classifiers on the same items: is one right more often than chance would have it?

Only items that one of them has right and the other wrong tell them apart. How alike their errors are:
`agreement`.
"""

from dataclasses import dataclass
from math import comb, erfc, sqrt
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deponij.pipeline.metrics.intervals import N_RESAMPLES, percentile_interval, resampled_means

# Up to here sums of binomial coefficients are instant; beyond, the approximation is indistinguishable.
_MOST_EXACT = 1000


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Accuracy of A minus accuracy of B.

    Attributes:
        n: items.
        difference: of the shares.
        interval: percentile bootstrap over items, (low, high).
        p: two-sided, twice the share of resamples on the other side of 0.
    """

    n: int
    difference: float
    interval: tuple[float, float]
    p: float


@dataclass(frozen=True, slots=True)
class McNemar:
    """McNemar's test of equal error rates.

    Attributes:
        b: items that only A has right; c: items that only B has right.
        p: two-sided.
        method: `exact`, binomial; or `chi2`, with continuity correction, for very many such items.
    """

    b: int
    c: int
    p: float
    method: Literal["exact", "chi2"]


def paired_bootstrap(
    hits_a: ArrayLike,
    hits_b: ArrayLike,
    confidence: float = 0.95,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> PairedDifference:
    """Resample items, each with both answers, and look at how the difference of accuracies spreads.

    Source: B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 13 and 15; the
    observed sample counts among the resamples, so that p is never 0.

    Raises:
        ValueError: no items, or the lengths differ.
    """
    right_a, right_b = right_pair(hits_a, hits_b)
    differences = right_a.astype(np.int8) - right_b.astype(np.int8)
    samples = resampled_means(differences, n_resamples, seed)
    beyond = min(int((samples <= 0).sum()), int((samples >= 0).sum()))
    return PairedDifference(
        n=len(differences),
        difference=int(differences.sum(dtype=np.int64)) / len(differences),
        interval=percentile_interval(samples, confidence),
        p=min(1.0, 2 * (beyond + 1) / (n_resamples + 1)),
    )


def mcnemar(hits_a: ArrayLike, hits_b: ArrayLike) -> McNemar:
    """McNemar's test on the items that exactly one of the two has right.

    Source: Q. McNemar, Psychometrika 12 (1947) 153-157; continuity correction: A. L. Edwards,
    Psychometrika 13 (1948) 185-187.

    Raises:
        ValueError: no items, or the lengths differ.
    """
    right_a, right_b = right_pair(hits_a, hits_b)
    b, c = int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())
    if b + c > _MOST_EXACT:
        statistic = max(0, abs(b - c) - 1) ** 2 / (b + c)
        # The upper tail of chi2 with one degree of freedom.
        return McNemar(b, c, erfc(sqrt(statistic / 2)), "chi2")
    tail = sum(comb(b + c, k) for k in range(min(b, c) + 1))
    return McNemar(b, c, min(1.0, 2 * tail / 2 ** (b + c)), "exact")


def right_pair(hits_a: ArrayLike, hits_b: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which items each has right, [n] each.

    Raises:
        ValueError: no items, or the lengths differ.
    """
    right_a, right_b = np.asarray(hits_a, dtype=np.bool_), np.asarray(hits_b, dtype=np.bool_)
    if right_a.ndim != 1 or right_a.shape != right_b.shape or len(right_a) == 0:
        raise ValueError(
            f"need the same n >= 1 items of both, got shapes {right_a.shape} and {right_b.shape}"
        )
    return right_a, right_b
