"""Which pictures without a label to label first: those that a classifier doubts, that differ from each other.

Doubt is the margin between the two likeliest classes (Scheffer, Decomain and Wrobel, IDA 2001). Of the most doubtful,
three times as many as are wanted, k-means with the doubts as weights makes as many clusters as are wanted, and of each
the item nearest to its middle is taken (Zhdanov, "Diverse mini-batch Active Learning", arXiv:1901.05954, 2019), so that
a batch is not one doubt many times over. Without a classifier all are clustered: a batch then covers what there is.

Shape letters: m items without a label, k wanted, C classes, d width.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from deponij.pipeline.likeness.pairs import Likeness, Rows
from deponij.pipeline.unit_vectors import Vectors
from deponij.store.errors import UsageError

# How many times as many as are wanted are looked at; measured against 5 and 10, see docs/next.md.
_OF_DOUBTFUL = 3
# Without doubts a random choice of so many is clustered; more change no middle.
_MOST = 20_000
_LEAST_WEIGHT = 1e-3


def doubts(probs: NDArray[np.floating]) -> NDArray[np.float64]:
    """1 minus the difference of the two largest probabilities, [m] in [0, 1]; 1 where two classes are equally likely.

    Args:
        probs: [m, C].

    Raises:
        UsageError: a single class, so that there is nothing to doubt.
    """
    if probs.shape[1] < 2:
        raise UsageError("a classifier with a single class doubts nothing")
    two = np.partition(probs.astype(np.float64), -2, axis=1)[:, -2:]  # [m, 2]
    return np.clip(1 - (two[:, 1] - two[:, 0]), 0, 1)


def doubts_between(probs: NDArray[np.floating], a: int, b: int) -> NDArray[np.float64]:
    """How far two classes, by their columns, are both likely: twice the smaller probability of the two, [m] in [0, 1]."""
    doubts: NDArray[np.float64] = 2 * probs.astype(np.float64)[:, [a, b]].min(axis=1)
    return doubts


def suggest(
    among: Likeness,
    with_known: Likeness | None,
    doubt: NDArray[np.float64] | None,
    n_wanted: int,
    seed: int,
) -> Rows:
    """Rows of the items to label first, the most doubtful first; fewer than wanted where there are no more.

    Args:
        among: of the m items with themselves, with vectors. No two that are alike are in one batch.
        with_known: with those that have a label; what is like one of these is left out, for it would teach nothing.
        doubt: [m]; None without a classifier.

    Raises:
        UsageError: without vectors, or none wanted.
    """
    if among.a.units is None:
        raise UsageError("what to label first is told by features; name --features VIEW")
    if n_wanted < 1:
        raise UsageError(f"at least one picture must be asked for, got {n_wanted}")
    there = np.flatnonzero(~_is_known(with_known, len(among.a)))
    weights = np.ones(len(among.a)) if doubt is None else np.maximum(doubt, _LEAST_WEIGHT)
    if doubt is None:
        some = np.random.default_rng(seed).permutation(there)[:_MOST]
    else:
        some = there[np.argsort(-doubt[there], kind="stable")][: _OF_DOUBTFUL * n_wanted]
    taken: list[int] = []
    for queue in _clusters(among.a.units[some], weights[some], n_wanted, seed):
        # The nearest to the middle that is like none before it.
        _take(among, taken, some[queue], 1)
    rest = there[np.argsort(-weights[there], kind="stable")]
    _take(among, taken, rest[~np.isin(rest, taken)], n_wanted - len(taken))
    rows = np.array(taken, np.int64)
    return rows[np.argsort(-weights[rows], kind="stable")]


def _is_known(with_known: Likeness | None, m: int) -> NDArray[np.bool_]:
    is_known = np.zeros(m, np.bool_)
    if with_known is not None and len(with_known.b):
        for start in range(0, m, 512):
            rows = slice(start, min(m, start + 512))
            is_known[rows] = with_known.tile(rows, slice(0, len(with_known.b))).any.any(axis=1)
    return is_known


def _clusters(units: Vectors, weights: NDArray[np.float64], k: int, seed: int) -> Iterator[Rows]:
    """Of each of k clusters its items, the nearest to the middle first; the heaviest cluster first."""
    from sklearn.cluster import KMeans

    if len(units) <= k:
        yield from (np.array([row]) for row in range(len(units)))
        return
    with threadpool_limits(limits=1):
        model = KMeans(k, n_init=1, random_state=seed).fit(units, sample_weight=weights)
        distances = model.transform(units)  # [m, k]
    homes = model.labels_
    heaviest = np.argsort(-np.bincount(homes, weights, minlength=k), kind="stable")
    for home in heaviest.tolist():
        rows = np.flatnonzero(homes == home)
        yield rows[np.argsort(distances[rows, home], kind="stable")]


def _take(among: Likeness, taken: list[int], queue: Rows, n_wanted: int) -> None:
    """Add the first of the queue that are like none that is taken."""
    n_left = n_wanted
    for row in queue.tolist():
        if n_left < 1:
            return
        if not taken or not among.tile(np.array([row]), np.array(taken)).any.any():
            taken.append(row)
            n_left -= 1
