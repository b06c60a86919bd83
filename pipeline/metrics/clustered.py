"""Means of values that come in clusters, such as crops of one photograph, and how far other clusters would move them.

Shape letters: n values' rows, m measures, G clusters, C classes, K pairs of a cluster and a class that occur, S runs.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deponij.pipeline.metrics.intervals import Interval, wilson

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
# What was left out in turn: `items` where each stands alone.
Unit = Literal["photographs", "groups", "items", "stretches"]
# With fewer clusters nobody knows how much they vary, and there is no interval.
FEWEST = 10


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean in [0, 1], and how much it would vary with other clusters.

    Attributes:
        value: the mean.
        variance: by leaving out each cluster in turn (the jackknife).
        variance_of_rows: as if each row stood alone.
        n_clusters: that have a part in it.
        n_effective: as many clusters of equal size tell as much.
        runs: the means of single runs, where `value` is their mean; [S], or empty.
    """

    value: float
    variance: float
    variance_of_rows: float
    n_clusters: int
    n_effective: float
    runs: tuple[float, ...] = ()

    @property
    def design_effect(self) -> float | None:
        """How many times larger clusters make the variance; None where there is none."""
        return self.variance / self.variance_of_rows if self.variance_of_rows > 0 else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation (S - 1) of the runs' means; None for a single run."""
        return float(np.std(self.runs, ddof=1)) if len(self.runs) > 1 else None

    @property
    def interval(self) -> Interval | None:
        """95 %, of what the mean would be over other clusters and, of several runs, over other runs; None for too few.

        Wilson's, for as many trials as would vary as much, with a quantile of Student's t for the degrees of freedom
        that the variance has (N. Dean, M. Pagano, J. Survey Statistics and Methodology 3 (2015) 484-503; L. Kish,
        Survey Sampling, 1965; of two variances, F. E. Satterthwaite, Biometrics Bulletin 2 (1946) 110-114). Variances
        of clusters and runs are added: a run's share that items and runs have in common is counted twice, which errs
        on the safe side. Where nothing varies, such as with all rows right, it is Wilson's for n_clusters trials; and
        what is less than all right has no higher lower bound than that, nor what is more than all wrong a lower upper.
        """
        if self.n_clusters < FEWEST:
            return None
        of_clusters = max(self.variance, self.variance_of_rows)
        of_runs = 0.0 if self.std is None else self.std**2 / len(self.runs)
        variance, n_spread = of_clusters + of_runs, self.value * (1 - self.value)
        if not variance or not n_spread:
            return wilson(self.value, self.n_clusters)
        (lowest, _), (_, highest) = wilson(1.0, self.n_clusters), wilson(0.0, self.n_clusters)
        from scipy.special import stdtrit

        doubt = of_clusters**2 / max(1.0, self.n_effective - 1)
        if of_runs:
            doubt += of_runs**2 / (len(self.runs) - 1)
        low, high = wilson(self.value, n_spread / variance, float(stdtrit(variance**2 / doubt, 0.975)))
        return min(low, lowest), max(high, highest)


@dataclass(frozen=True, slots=True)
class Means:
    """Estimates over all rows, over the classes' means, and of each class.

    Attributes:
        micro, macro: m each.
        by_class: C times m.
        n_clusters: G.
    """

    micro: tuple[Estimate, ...]
    macro: tuple[Estimate, ...]
    by_class: tuple[tuple[Estimate, ...], ...]
    n_clusters: int


def clustered_means(values: ArrayLike, clusters: ArrayLike, classes: ArrayLike) -> Means:
    """Means of values [n, m] in [0, 1], whose variances come from leaving out whole clusters.

    Rows of one cluster are not independent; clusters are. Left out in turn, they give the variance of any of these
    means (J. W. Tukey, Ann. Math. Statist. 29 (1958) 614; R. Bell, D. McCaffrey, Survey Methodology 28 (2002)
    169-181, on why it suits few clusters of unequal size). The macro mean is over the classes that occur: one of which
    nothing is left is left out of it. As if rows stood alone, it varies as much as rows of all classes do about their
    class's mean, for of a rare class the few rows are often alike by luck.

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
    of_cluster, of_class = _codes(clusters), _codes(classes)
    n, n_in_class = len(rows), np.bincount(of_class)
    n_classes = len(n_in_class)
    jackknife = _left_out(rows, of_cluster, of_class)
    deviations = _sums((rows - jackknife.by_class[of_class]) ** 2, of_class, n_classes)
    variance_of_row = deviations.sum(axis=0) / max(1, n - n_classes)
    row_variance = ((rows - jackknife.micro) ** 2).sum(axis=0) / (n * max(1, n - 1))
    macro_row_variance = variance_of_row * (1 / n_in_class).sum() / n_classes**2
    class_row_variance = deviations / (n_in_class * np.maximum(1, n_in_class - 1))[:, None]
    sizes = np.bincount(of_cluster)
    of_all = len(sizes), float(n**2 / (sizes**2).sum())
    of_each = (
        *(jackknife.by_class, jackknife.class_variance, class_row_variance),
        *(jackknife.class_clusters.tolist(), jackknife.class_effective.tolist()),
    )
    return Means(
        micro=_estimates(jackknife.micro, jackknife.micro_variance, row_variance, *of_all),
        macro=_estimates(jackknife.macro, jackknife.macro_variance, macro_row_variance, *of_all),
        by_class=tuple(_estimates(*one) for one in zip(*of_each, strict=True)),
        n_clusters=len(sizes),
    )


def _estimates(
    means: Floats, variances: Floats, of_rows: Floats, n_clusters: int, n_effective: float
) -> tuple[Estimate, ...]:
    """Of m measures."""
    columns = zip(means.tolist(), variances.tolist(), of_rows.tolist(), strict=True)
    return tuple(Estimate(*three, n_clusters, n_effective) for three in columns)


def mean_of_runs(values: ArrayLike, clusters: ArrayLike, classes: ArrayLike) -> tuple[Estimate, Estimate]:
    """Micro and macro mean over S runs on the same rows, values [S, n]: other seeds, or other training items.

    The interval is of the expectation over clusters *and* runs.

    Raises:
        ValueError: not S >= 1 runs of n >= 1 values, or lengths that differ.
    """
    runs = np.asarray(values, np.float64)
    if runs.ndim != 2 or not runs.size:
        raise ValueError(f"need values [runs, items] of at least one each, got shape {runs.shape}")
    means = clustered_means(np.column_stack([runs.mean(axis=0), *runs]), clusters, classes)
    micro, macro = (
        replace(of[0], runs=tuple(one.value for one in of[1:])) for of in (means.micro, means.macro)
    )
    return micro, macro


def unit_of(unit: Unit, n_clusters: int, n: int) -> Unit:
    """What clusters are called: items where none has two of them."""
    return "items" if n_clusters == n else unit


def _codes(names: ArrayLike) -> Codes:
    return np.unique(np.asarray(names), return_inverse=True)[1].astype(np.int64)


@dataclass(frozen=True, slots=True)
class _LeftOut:
    """Means [m] and [C, m], and their variances by leaving out each cluster in turn; each class's clusters [C]."""

    micro: Floats
    micro_variance: Floats
    macro: Floats
    macro_variance: Floats
    by_class: Floats
    class_variance: Floats
    class_clusters: Codes
    class_effective: Floats


def _left_out(rows: Floats, clusters: Codes, classes: Codes) -> _LeftOut:
    n_clusters, n_classes = int(clusters.max()) + 1, int(classes.max()) + 1
    # Only classes that a cluster has change with it: K pairs instead of G times C.
    pairs, pair_of = np.unique(clusters * n_classes + classes, return_inverse=True)
    cluster, label = np.divmod(pairs, n_classes)
    sums, counts = _sums(rows, pair_of, len(pairs)), np.bincount(pair_of)[:, None]
    class_sums, class_counts = _sums(sums, label, n_classes), _sums(counts, label, n_classes)
    by_class = class_sums / class_counts
    remaining = class_counts[label] - counts
    is_last = remaining == 0
    without = (class_sums[label] - sums) / np.where(is_last, 1, remaining)

    micro = rows.mean(axis=0)
    cluster_counts = _sums(counts, cluster, n_clusters)
    others = np.maximum(len(rows) - cluster_counts, 1)
    micro_without = (rows.sum(axis=0) - _sums(sums, cluster, n_clusters)) / others

    macro = by_class.mean(axis=0)
    change = np.where(is_last, 0.0, without) - by_class[label]
    n_left = np.maximum(n_classes - _sums(is_last, cluster, n_clusters), 1)
    macro_without = (by_class.sum(axis=0) + _sums(change, cluster, n_clusters)) / n_left

    squares = _sums(np.where(is_last, 0.0, without - by_class[label]) ** 2, label, n_classes)
    in_class = np.bincount(label)
    scale = (n_clusters - 1) / n_clusters
    return _LeftOut(
        micro=micro,
        micro_variance=scale * ((micro_without - micro) ** 2).sum(axis=0),
        macro=macro,
        macro_variance=scale * ((macro_without - macro) ** 2).sum(axis=0),
        by_class=by_class,
        class_variance=((in_class - 1) / in_class)[:, None] * squares,
        class_clusters=in_class,
        class_effective=class_counts[:, 0] ** 2 / _sums(counts**2, label, n_classes)[:, 0],
    )


def _sums(values: NDArray[np.generic], places: Codes, n: int) -> Floats:
    """Sums [n, m] of values [k, m] by place [k]."""
    columns = np.asarray(values, np.float64).T
    return np.column_stack([np.bincount(places, column, minlength=n) for column in columns])
