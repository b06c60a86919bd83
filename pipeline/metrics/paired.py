"""Two classifiers on the same items: is one right more often than chance would have it?

Only items that one of them has right and the other wrong tell them apart. How alike their errors are:
`agreement`.

Shape letters: n items, G groups of items that are not independent, such as crops of one photograph.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deponij.pipeline.metrics.clustered import FEWEST
from deponij.pipeline.metrics.intervals import Interval

Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Accuracy of A minus accuracy of B on n items.

    Attributes:
        difference: of the shares.
        interval: at 95 %; None for fewer than ten groups.
        only_a, only_b: items that only one of them has right.
        n_groups: G.
        n_groups_apart: groups in which one has more right than the other.
        p: two-sided and exact, by exchanging A and B in whole groups; McNemar's where each item is a group.
    """

    n: int
    difference: float
    interval: Interval | None
    only_a: int
    only_b: int
    n_groups: int
    n_groups_apart: int
    p: float


def paired_difference(hits_a: ArrayLike, hits_b: ArrayLike, groups: ArrayLike) -> PairedDifference:
    """Compare hits [n] of two on the same items of these groups [n].

    Raises:
        ValueError: no items, or the lengths differ.
    """
    right_a, right_b = right_pair(hits_a, hits_b)
    if np.shape(groups) != right_a.shape:
        raise ValueError(f"need a group for each of {len(right_a)} items, got shape {np.shape(groups)}")
    _, codes, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    only_a, only_b = (
        np.bincount(codes[one], minlength=len(sizes)) for one in (right_a & ~right_b, right_b & ~right_a)
    )
    leads = (only_a - only_b).astype(np.int64)
    return PairedDifference(
        n=len(codes),
        difference=int(leads.sum()) / len(codes),
        interval=_interval(leads, sizes) if len(sizes) >= FEWEST else None,
        only_a=int(only_a.sum()),
        only_b=int(only_b.sum()),
        n_groups=len(sizes),
        n_groups_apart=int((leads != 0).sum()),
        p=exchange_p(leads),
    )


def exchange_p(leads: ArrayLike) -> float:
    """How often leads [G] of A over B would sum up as far from 0 as they do, were A and B exchanged at random.

    Of equals each group's lead has either sign equally often, whatever its size and however alike its items are. All
    2^G ways are counted, as the distribution of a sum (R. A. Fisher, The Design of Experiments, 1935, section 21).
    Where all leads are 1, 0 or -1 that is McNemar's exact test (Psychometrika 12 (1947) 153-157).
    """
    from scipy.signal import convolve
    from scipy.stats import binom

    whole = np.asarray(leads, np.int64)
    sizes, times = np.unique(np.abs(whole[whole != 0]), return_counts=True)
    chances = np.ones(1)
    for size, n in zip(sizes.tolist(), times.tolist(), strict=True):
        of_size = np.zeros(size * n + 1)
        of_size[::size] = binom.pmf(np.arange(n + 1), n, 0.5)
        chances = convolve(chances, of_size)
    # chances[w] is that of leads of w items in all having turned; what remains is the sum's distance from the end.
    turned = int(np.abs(whole).sum() - abs(whole.sum())) // 2
    return min(1.0, float(2 * chances[: turned + 1].sum()))


def _interval(leads: Codes, sizes: Codes) -> Interval:
    """Of the difference, with two groups of mean size added, one won by each: else few leads seem certain.

    Of single items these are Bonett and Price's (J. Educational and Behavioral Statistics 37 (2012) 479-488). The
    variance comes from leaving out each group in turn, see `clustered`.
    """
    from scipy.special import stdtrit

    apart = leads[leads != 0]
    usual = sqrt(float((apart**2).mean())) if len(apart) else 1.0
    lead, size = np.append(leads, [usual, -usual]), np.append(sizes, [sizes.mean()] * 2)
    n, difference = size.sum(), lead.sum() / size.sum()
    without = (lead.sum() - lead) / (n - size)
    variance = (len(size) - 1) / len(size) * float(((without - difference) ** 2).sum())
    n_effective = float(n**2 / (size**2).sum())
    reach = float(stdtrit(n_effective - 1, 0.975)) * sqrt(variance)
    return max(-1.0, difference - reach), min(1.0, difference + reach)


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
