"""How well vectors find what belongs together: average precision, recall and precision at k of exact rankings.

A query's gallery is ranked by falling cosine. What counts as relevant is given as codes: an item of the gallery is
relevant to a query of the same code. Of equal scores the irrelevant ones come first, so that no order of rows, and no
embedding in which all are alike, is rewarded. Scores are equal where they are no more than 1e-6 apart.

Shape letters: q queries, g items of the gallery, d width, R relevant items of a query, N items of its gallery.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.unit_vectors import Vectors, blocks, largest, unit
from deponij.store.errors import DataError, IdentityError

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
MEAN_AVERAGE_PRECISION, R_PRECISION = "mAP", "R-precision"
# Products of equal vectors differ in their last bits, by where they stand in the matrix.
_TOLERANCE = np.float32(1e-6)

Advance = Callable[[int], object]


def recall_at(k: int) -> str:
    """Name of the measure: whether any of the first k is relevant."""
    return f"recall@{k}"


def precision_at(k: int) -> str:
    """Name of the measure: the share of the first k that is relevant."""
    return f"precision@{k}"


@dataclass(frozen=True, slots=True)
class Rankings:
    """What each query's ranking is worth; queries without anything relevant are left out.

    Attributes:
        asked: numbers of the queries that are judged, [n].
        n_relevant, n_gallery: R and N of each of them, [n].
        values: measure -> [n].
        chance: the same, expected of a random order.
        n_without: queries that were left out.
    """

    asked: Codes
    n_relevant: Codes
    n_gallery: Codes
    values: Mapping[str, Floats]
    chance: Mapping[str, Floats]
    n_without: int


@dataclass(frozen=True, slots=True)
class Side:
    """Queries, or a gallery.

    Attributes:
        vectors: [n, d], of any length.
        codes: [n]; equal ones are relevant to each other.
        groups: [n]; a query's own group (its photograph) is left out of its gallery. None: nothing is.
    """

    vectors: NDArray[np.floating]
    codes: NDArray[np.generic]
    groups: NDArray[np.generic] | None = None


def judge_rankings(
    queries: Side, gallery: Side, ks: Sequence[int] = (1, 5, 10), advance: Advance = lambda n: None
) -> Rankings:
    """Rank the gallery for each query and judge the order.

    The measures, of relevant items at the ranks r_1 < … < r_R among N:

    - `mAP`, of one query its average precision: mean over j of j / r_j, over the whole gallery, not interpolated;
      scikit-learn's `average_precision_score` where no scores are equal, and torchmetrics' `RetrievalMAP` where
      besides all are positive;
    - `recall@k`: whether r_1 <= k, as CLIP_benchmark defines it; not the share of the R items;
    - `precision@k`: the share of the first min(k, N) that is relevant;
    - `R-precision`: the share of the first R that is relevant.

    Memory is bounded: scores are computed block by block, [b, g], in float32, and of a ranking only its worth is kept.

    Args:
        advance: called with the number of queries that have just been ranked.

    Raises:
        IdentityError: vectors of different widths.
        DataError: values that are not finite, or an empty gallery.
    """
    if not len(gallery.vectors):
        raise DataError("the gallery is empty: there is nothing to rank")
    asked, kept = unit(queries.vectors, "queries"), unit(gallery.vectors, "gallery")
    if asked.shape[1] != kept.shape[1]:
        raise IdentityError(
            f"queries have the width {asked.shape[1]} and the gallery {kept.shape[1]}: they are of different models"
        )
    codes, gallery_codes = _shared_codes(queries.codes, gallery.codes)
    groups = None
    if queries.groups is not None and gallery.groups is not None:
        groups = _shared_codes(queries.groups, gallery.groups)
    names = [MEAN_AVERAGE_PRECISION, *map(recall_at, ks), *map(precision_at, ks), R_PRECISION]
    worth = np.zeros((len(asked), len(names)))
    n_relevant, n_gallery = np.zeros((2, len(asked)), np.int64)
    for some in blocks(len(asked), len(kept)):
        scores = asked[some] @ kept.T  # [b, g]
        for row, of_query in enumerate(scores, some.start):
            there = None if groups is None else groups[1] != groups[0][row]
            ranks, n_gallery[row] = _ranks(of_query, gallery_codes == codes[row], there)
            n_relevant[row] = len(ranks)
            if len(ranks):
                worth[row] = _worth(ranks, int(n_gallery[row]), ks)
        advance(len(scores))
    judged = np.flatnonzero(n_relevant)
    return Rankings(
        asked=judged,
        n_relevant=n_relevant[judged],
        n_gallery=n_gallery[judged],
        values=dict(zip(names, worth[judged].T, strict=True)),
        chance=expected_by_chance(n_relevant[judged], n_gallery[judged], ks),
        n_without=len(asked) - len(judged),
    )


def nearest(
    query: NDArray[np.floating], gallery: NDArray[np.floating], k: int, there: Mask | None = None
) -> list[tuple[int, float]]:
    """Row and cosine of the k nearest of a gallery [g, d] to a query [d]; equal ones by row.

    Args:
        there: bool [g], rows that count; None for all.
    """
    scores = unit(gallery, "gallery") @ unit(query[None], "query")[0]
    rows = np.arange(len(scores)) if there is None else np.flatnonzero(there)
    if not len(rows):
        return []
    best, places = largest(scores[None, rows], min(k, len(rows)))
    return list(zip(rows[places[0]].tolist(), np.clip(best[0], -1, 1).tolist(), strict=True))


def _shared_codes(
    a: NDArray[np.generic], b: NDArray[np.generic]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Names, or numbers, of two sides as small numbers that are equal where these are."""
    _, codes = np.unique(np.concatenate([a, b]), return_inverse=True)
    return codes[: len(a)].astype(np.int64), codes[len(a) :].astype(np.int64)


def _ranks(scores: Vectors, is_relevant: Mask, there: Mask | None) -> tuple[Codes, int]:
    """Ranks of the relevant items, rising, from 1; and how many items there are."""
    others = ~is_relevant
    if there is not None:
        is_relevant, others = is_relevant & there, others & there
    relevant, rest = scores[is_relevant], scores[others]
    n = len(relevant) + len(rest)
    if not len(relevant):
        return np.empty(0, np.int64), n
    relevant = np.sort(relevant)[::-1]
    level = relevant - _TOLERANCE
    # Only those that are ahead of a relevant one matter; sorting the rest would cost most of the time.
    rest = np.sort(rest[rest >= level[-1]])
    n_ahead = len(rest) - np.searchsorted(rest, level, side="left")
    return n_ahead + np.arange(1, len(relevant) + 1), n


def _worth(ranks: Codes, n: int, ks: Sequence[int]) -> list[float]:
    """Of relevant items at these ranks among n: average precision, recall and precision at each k, R-precision."""
    n_found = np.searchsorted(ranks, [*ks, len(ranks)], side="right")
    return [
        float(np.mean(np.arange(1, len(ranks) + 1) / ranks)),
        *(n_found[:-1] > 0),
        *(n_found[:-1] / np.minimum(ks, n)),
        n_found[-1] / len(ranks),
    ]


def expected_by_chance(n_relevant: Codes, n_gallery: Codes, ks: Sequence[int]) -> dict[str, Floats]:
    """What a random order reaches on average, exactly, by measure.

    `mAP`: (H_N + (R - 1) / (N - 1) * (N - H_N)) / N with the harmonic number H_N, which follows from the chance
    R / N of relevance at a rank and R (R - 1) / N (N - 1) at two (Y. Bestgen, Scientometrics 102 (2015) 1307-1324).
    `recall@k`: 1 - C(N - R, k) / C(N, k). Both precisions: R / N.

    Args:
        n_relevant, n_gallery: R >= 1 and N >= R, [n].
    """
    relevant, size = np.asarray(n_relevant, np.float64), np.asarray(n_gallery, np.float64)
    most = int(size.max(initial=1))
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, most + 1))])[size.astype(np.int64)]
    second = (relevant - 1) / np.maximum(size - 1, 1)
    chances = {MEAN_AVERAGE_PRECISION: (harmonic + second * (size - harmonic)) / size}
    for k in ks:
        missed = np.ones_like(size)
        # Beyond the largest gallery nothing is left to miss.
        for i in range(min(k, most)):
            missed *= np.maximum(size - relevant - i, 0) / np.maximum(size - i, 1)
        chances[recall_at(k)] = 1 - missed
    return chances | dict.fromkeys([*map(precision_at, ks), R_PRECISION], relevant / size)
