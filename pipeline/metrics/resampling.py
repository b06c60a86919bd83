"""Intervals and tests for figures that are no means, by drawing groups of items anew. Of means: `clustered`, `paired`.

A figure is computed from sums over groups, such as a confusion matrix; drawn anew are the groups, with all that is in one.

Shape letters: G groups, m counts of each, B draws.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.metrics.clustered import FEWEST
from deponij.pipeline.metrics.intervals import Interval

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
N_DRAWS, N_EXCHANGES, SEED = 2000, 9999, 0
# Weights of more draws at a time would take memory for nothing.
_AT_ONCE = 250
# Of so few groups all ways of exchanging are tried.
_ALL_WAYS = 13


@dataclass(frozen=True, slots=True)
class Draws:
    """Sums of counts [m] over all G groups, and over each of B draws of G groups with replacement.

    Attributes:
        whole: [m].
        drawn: [B, m], float64 that hold whole numbers.
        n_groups: G.
    """

    whole: Floats
    drawn: Floats
    n_groups: int

    @classmethod
    def of(cls, counts: Counts, n_draws: int = N_DRAWS, seed: int = SEED) -> "Draws":
        """Of counts [G, m], below 2^53 in all, so that sums are exact."""
        generator, rows = np.random.default_rng(seed), np.asarray(counts, np.float64)
        n = len(rows)
        even = np.full(n, 1 / n)
        weights = (generator.multinomial(n, even, size).astype(np.float64) for size in _pieces(n_draws))
        return cls(rows.sum(axis=0), np.concatenate([one @ rows for one in weights]), n)

    def interval(self, figure: Callable[[Floats], Floats]) -> Interval | None:
        """95 % of a figure of sums [k, m] -> [k]; None for fewer than ten groups."""
        return expanded_percentile(figure(self.drawn), self.n_groups)


def expanded_percentile(values: Floats, n_groups: int) -> Interval | None:
    """95 % from a figure of each draw [B]; NaN where a draw has none. None for too few groups, or nothing to go by.

    Percentiles of the draws, but at levels that lie as far out as Student's t with G - 1 degrees of freedom and the
    variance's lost G / (G - 1) ask for, without which bootstrap intervals of few groups are too narrow (T. Hesterberg,
    The American Statistician 69 (2015) 371-386, section 4.2).
    """
    known = values[np.isfinite(values)]
    if n_groups < FEWEST or not len(known):
        return None
    from scipy.special import ndtr, stdtrit

    reach = float(stdtrit(n_groups - 1, 0.975)) * sqrt(n_groups / (n_groups - 1))
    low, high = np.quantile(known, [float(ndtr(-reach)), float(ndtr(reach))])
    return float(low), float(high)


def exchanged_p(
    a: Counts,
    b: Counts,
    figure: Callable[[Floats], Floats],
    n_exchanges: int = N_EXCHANGES,
    seed: int = SEED,
) -> float:
    """How often a figure of A minus that of B would be as far from 0 as it is, were A and B exchanged in whole groups.

    Of equals each group's two counts are as likely the other way round (R. A. Fisher, The Design of Experiments, 1935,
    section 21). Up to 13 groups all 2^G ways are tried; of more the way that was and n_exchanges random ones, so that p
    is at least 1 / (1 + n_exchanges) (B. Phipson, G. Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010) 39).

    Args:
        a, b: [G, m].
        figure: of sums [k, m] -> [k].
    """
    mean, half = (a + b).sum(axis=0) / 2, (a - b) / 2

    def far(signs: Floats) -> Floats:
        turned = signs @ half
        return np.abs(figure(mean + turned) - figure(mean - turned))

    observed = far(np.ones((1, len(a))))[0]
    # Another order of summing must not make of a tie a smaller one.
    least = observed - 1e-12
    n_ways, n_as_far = 0, 0
    for signs in _signs(len(a), n_exchanges, seed):
        n_ways, n_as_far = n_ways + len(signs), n_as_far + int((far(signs) >= least).sum())
    return n_as_far / n_ways if len(a) <= _ALL_WAYS else (1 + n_as_far) / (1 + n_ways)


def _signs(n_groups: int, n_exchanges: int, seed: int) -> Iterator[Floats]:
    """1 where a group stays and -1 where it is exchanged, [k, G] at a time."""
    if n_groups <= _ALL_WAYS:
        ways = np.arange(2**n_groups)[:, None] >> np.arange(n_groups) & 1
        yield np.where(ways, -1.0, 1.0)
        return
    generator = np.random.default_rng(seed)
    for size in _pieces(n_exchanges):
        yield np.where(generator.integers(0, 2, (size, n_groups)), -1.0, 1.0)


def _pieces(n: int) -> Iterator[int]:
    return (min(_AT_ONCE, n - start) for start in range(0, n, _AT_ONCE))


def sums_by_group(counts: Counts, groups: NDArray[np.str_]) -> Counts:
    """Counts [n, m] of items summed to [G, m] in the order of the groups' names [n]."""
    names, group_of = np.unique(groups, return_inverse=True)
    sums = np.zeros((len(names), counts.shape[1]), np.int64)
    np.add.at(sums, group_of, counts)
    return sums
