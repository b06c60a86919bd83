"""What twice the training items would bring: a learning curve's points, a power law through them, and a band.

Errors of classifiers fall with the items n they learn from about as a + b n**-c (C. Cortes et al., NeurIPS 1993; T. Viering,
M. Loog, IEEE TPAMI 45 (2023) 7799, on where they do not). Later points weigh more, as in R. Figueroa et al., BMC Medical
Informatics and Decision Making 12 (2012) 8. How far the law may be off is told by drawing other test groups and other
tries (a bootstrap), since all points are of the same test items, which no formula for independent points knows.

Shape letters: K points, S tries, t test items, G groups of them, B draws of the bootstrap.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deponij.pipeline.metrics.clustered import FEWEST
from deponij.pipeline.metrics.curves import BAND, Twice
from deponij.pipeline.metrics.intervals import wilson

Floats = NDArray[np.float64]
# With fewer points three parameters are not told apart.
FEWEST_POINTS = 3
# Exponents that classifiers have; a straight line or a cliff is none.
EXPONENTS = np.round(np.arange(0.05, 1.5001, 0.01), 2)
_N_DRAWS = 1000
# Of the normal distribution, for BAND.
_QUANTILE = 1.2815515655446004
# By how much bands of the gain alone would be too narrow, above all of many items, where the law itself is off;
# `benchmarks/forecasts.py`.
_WIDER = 1.25
# Wider bands say nothing.
WIDEST = 0.4


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """Errors a + b n**-c, of B curves at once.

    Attributes:
        floor: a >= 0 [B].
        scale: b >= 0 [B].
        exponent: c [B].
    """

    floor: Floats
    scale: Floats
    exponent: Floats

    def at(self, n: float) -> Floats:
        """Errors [B] with n items."""
        return self.floor + self.scale * n**-self.exponent


def fit(n_train: ArrayLike, errors: ArrayLike) -> PowerLaw:
    """The power laws of least squares through errors [B, K] with n_train [K] items; the k-th point weighs k.

    For each exponent of a grid floor and scale are a linear problem (variable projection; G. Golub, V. Pereyra, SIAM J.
    Numerical Analysis 10 (1973) 413), so that the best of all is found, whatever the start.
    """
    ns, measured = np.asarray(n_train, np.float64), np.asarray(errors, np.float64)
    weights = np.arange(1, len(ns) + 1) / len(ns)
    best = np.full(len(measured), np.inf)
    floor, scale, exponent = (np.zeros(len(measured)) for _ in range(3))
    for c in EXPONENTS:
        x = (ns / ns[-1]) ** -c
        a, b = _line(x, measured, weights)
        loss = ((measured - a[:, None] - b[:, None] * x) ** 2) @ weights
        is_better = loss < best
        best = np.where(is_better, loss, best)
        floor, scale = np.where(is_better, a, floor), np.where(is_better, b * ns[-1] ** c, scale)
        exponent = np.where(is_better, c, exponent)
    return PowerLaw(floor, scale, exponent)


def _line(x: Floats, y: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Intercept and slope [B], both at least 0, of y [B, K] over x [K]."""
    total = weights.sum()
    mean_x, mean_y = x @ weights / total, y @ weights / total
    slope = (y - mean_y[:, None]) @ (weights * (x - mean_x)) / ((x - mean_x) ** 2 @ weights)
    slope = np.maximum(slope, 0.0)
    intercept = mean_y - slope * mean_x
    is_below = intercept < 0
    return np.where(is_below, 0.0, intercept), np.where(is_below, y @ (weights * x) / (x**2 @ weights), slope)


def forecast(
    n_train: Sequence[float],
    hits: Sequence[NDArray[np.bool_]],
    groups: ArrayLike,
    n_pictures: int,
    n_rotations: int = 1,
) -> Twice:
    """What twice as many items as the last point has would bring.

    Args:
        n_train: items of each point, rising.
        hits: of each point whether test items were answered rightly, [S, t]; of the last one S may be 1.
        groups: of the t test items; those of one group are not independent.
        n_pictures: twice the pictures that there are, for words.
        n_rotations: how many classifiers a try's answers are of.
    """
    told: dict[str, Any] = {"n_pictures": n_pictures, "n_train": 2 * round(n_train[-1])}
    clusters = np.unique(np.asarray(groups), return_inverse=True)[1]
    n_groups = int(clusters.max()) + 1
    if len(hits) < FEWEST_POINTS:
        return Twice(**told, unknown=f"{n_train[-1]:,.0f} training items are too few for a curve")
    if min(len(of_size) for of_size in hits[:-1]) < 2:
        return Twice(**told, unknown="one draw of each size does not tell how much draws differ")
    if n_groups < FEWEST:
        return Twice(**told, unknown=f"{n_groups} independent test items are too few, it takes {FEWEST}")
    drawn = _drawn(hits, clusters, n_groups, n_rotations)
    if np.quantile(drawn.errors[:, 0] - drawn.errors[:, -1], (1 - BAND) / 2) <= 0:
        return Twice(**told, unknown="the curve does not rise beyond its noise")
    here, ahead = n_train[-1], 2 * n_train[-1]
    middle = fit(n_train, np.array([[1 - float(of_size.mean()) for of_size in hits]]))
    law = fit(n_train, drawn.errors)
    top1 = 1 - float(middle.at(ahead)[0])
    gain = float(middle.at(here)[0]) + top1 - 1
    low, high = _band(1 - law.at(ahead) + drawn.other, top1)
    # As of other intervals: not narrower than if each item stood alone, nor, where all are right, than of so few groups.
    alone = wilson(top1, len(clusters), _QUANTILE)
    (least, _), (_, most) = wilson(1.0, n_groups, _QUANTILE), wilson(0.0, n_groups, _QUANTILE)
    band = (
        max(0.0, min(low, least, alone[0])),
        min(1.0, max(high, most, alone[1])),
    )
    if band[1] - band[0] > WIDEST:
        return Twice(
            **told, unknown=f"it could be anything from {100 * band[0]:.0f} to {100 * band[1]:.0f} %"
        )
    return Twice(
        **told,
        top1=top1,
        band=band,
        gain=gain,
        gain_band=_band(law.at(here) - law.at(ahead) + drawn.other - drawn.here, gain, _WIDER),
        floor=float(middle.floor[0]),
        exponent=float(middle.exponent[0]),
    )


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What other test items and other draws of the training items would have given.

    Attributes:
        errors: [B, K].
        here, other: how much better than the curve a single classifier is, the one that there is and the one
            with twice the items, [B].
    """

    errors: Floats
    here: Floats
    other: Floats


def _drawn(
    hits: Sequence[NDArray[np.bool_]], clusters: NDArray[np.int64], n_groups: int, n_rotations: int
) -> _Drawn:
    rng = np.random.default_rng(0)
    often = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), _N_DRAWS).astype(np.float64)
    n_test = often @ np.bincount(clusters)
    errors = []
    for of_size in hits:
        missed = np.stack([np.bincount(clusters, ~one, minlength=n_groups) for one in of_size])
        of_tries = often @ missed.T / n_test[:, None]  # [B, S]
        chosen = rng.integers(0, len(of_size), (_N_DRAWS, len(of_size)))
        errors.append(np.take_along_axis(of_tries, chosen, axis=1).mean(axis=1))
    # Of the last size there is a single try, whose spread is that of the sizes before it.
    spread = float(np.mean([_variance_of_tries(of_size, clusters) for of_size in hits[-3:-1]])) ** 0.5
    errors[-1] += spread * rng.normal(size=_N_DRAWS)
    here, other = n_rotations**0.5 * spread * rng.normal(size=(2, _N_DRAWS))
    return _Drawn(np.stack(errors, axis=1), here, other)


def _variance_of_tries(hits: NDArray[np.bool_], clusters: NDArray[np.int64]) -> float:
    """By how much accuracies of tries [S, t] would differ on any number of test items: the variance component of rows.

    Two-way analysis of variance without replicates (S. Searle et al., Variance Components, 1992), in which what rows
    and columns do not tell is summed over clusters [t] first, since within these it is not independent.
    """
    values = hits.astype(np.float64)
    n_tries, n = values.shape
    of_tries = values.mean(axis=1)
    rest = values - of_tries[:, None] - values.mean(axis=0) + values.mean()
    sums = np.stack([np.bincount(clusters, row) for row in rest])  # [S, G]
    n_groups = sums.shape[1]
    by_luck = (sums**2).sum() / (n_tries - 1) / n**2 * n_groups / (n_groups - 1)
    return max(0.0, float(of_tries.var(ddof=1) - by_luck))


def _band(drawn: Floats, middle: float, wider: float = 1.0) -> tuple[float, float]:
    """Around the middle, as far as the draws spread to either side of theirs, or so many times farther."""
    low, centre, high = np.quantile(drawn, [(1 - BAND) / 2, 0.5, (1 + BAND) / 2])
    return middle - wider * float(centre - low), middle + wider * float(high - centre)
