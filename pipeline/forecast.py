"""What twice the training items would bring: a learning curve's points, a power law through them, and a band.

Errors of classifiers fall with the items n they learn from about as a + b n**-c (C. Cortes et al., NeurIPS 1993; T. Viering,
M. Loog, IEEE TPAMI 45 (2023) 7799, on where they do not). Later points weigh more, as in R. Figueroa et al., BMC Medical
Informatics and Decision Making 12 (2012) 8. How far the law may be off is told by drawing other test groups and other
tries (a bootstrap), since all points are of the same test items, which no formula for independent points knows.

Shape letters: K points, S tries, t test items, G groups of them, B draws of the bootstrap.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
# By how much bands of the bootstrap alone are too narrow; see `benchmarks/forecasts.py`.
_WIDER = 1.0
# Wider bands say nothing.
_WIDEST = 0.4


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """Errors a + b n**-c, of B curves at once.

    Attributes:
        floor: a >= 0 [B]. scale: b >= 0 [B]. exponent: c [B].
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
    ns, found = np.asarray(n_train, np.float64), np.asarray(errors, np.float64)
    weights = np.arange(1, len(ns) + 1) / len(ns)
    best = np.full(len(found), np.inf)
    floor, scale, exponent = (np.zeros(len(found)) for _ in range(3))
    for c in EXPONENTS:
        x = (ns / ns[-1]) ** -c
        a, b = _line(x, found, weights)
        loss = ((found - a[:, None] - b[:, None] * x) ** 2) @ weights
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
    n_train: Sequence[float], hits: Sequence[NDArray[np.bool_]], groups: ArrayLike, n_pictures: int
) -> Twice:
    """What twice as many items as the last point has would bring.

    Args:
        n_train: items of each point, rising.
        hits: of each point whether test items were answered rightly, [S, t].
        groups: of the t test items; those of one group are not independent.
        n_pictures: twice the pictures that there are, for words.
    """
    told = {"n_pictures": n_pictures, "n_train": 2 * round(n_train[-1]) if n_train else 0}
    clusters = np.unique(np.asarray(groups), return_inverse=True)[1]
    n_groups = int(clusters.max()) + 1
    if len(n_train) < FEWEST_POINTS:
        return Twice(**told, unknown=f"too few training items ({n_train[-1]:,.0f}) for a curve")
    if n_groups < FEWEST:
        return Twice(**told, unknown=f"too few test items that are independent ({n_groups}, it takes {FEWEST})")
    drawn = _drawn(hits, clusters, n_groups)
    rise = drawn[:, 0] - drawn[:, -1]
    if np.quantile(rise, 0.1) <= 0:
        return Twice(**told, unknown="the curve does not rise beyond its noise")
    law = fit(n_train, drawn)
    now, then = 1 - law.at(n_train[-1]), 1 - law.at(2 * n_train[-1])
    middle = fit(n_train, np.array([[1 - of_size.mean() for of_size in hits]]))
    top1 = float(1 - middle.at(2 * n_train[-1])[0])
    gain = top1 - float(1 - middle.at(n_train[-1])[0])
    band = _band(then, top1)
    low, high = wilson(top1, n_groups, _QUANTILE)
    return Twice(
        **told,
        top1=top1,
        band=(min(band[0], low), max(band[1], high)),
        gain=gain,
        gain_band=_band(then - now, gain),
        floor=float(middle.floor[0]),
        exponent=float(middle.exponent[0]),
    )


def _drawn(hits: Sequence[NDArray[np.bool_]], clusters: NDArray[np.int64], n_groups: int) -> Floats:
    """Errors [B, K] with other test groups and other tries, as often drawn as there are."""
    rng = np.random.default_rng(0)
    often = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), _N_DRAWS).astype(np.float64)
    n_test = often @ np.bincount(clusters)
    errors, spread = [], 0.0
    for of_size in hits:
        missed = np.stack([np.bincount(clusters, ~one, minlength=n_groups) for one in of_size])
        of_tries = often @ missed.T / n_test[:, None]  # [B, S]
        n_tries = len(of_size)
        if n_tries > 1:
            spread = float((~of_size).mean(axis=1).std(ddof=1))
            chosen = rng.integers(0, n_tries, (_N_DRAWS, n_tries))
            errors.append(np.take_along_axis(of_tries, chosen, axis=1).mean(axis=1))
        else:
            # One draw has no spread of its own; that of the size before it stands in.
            errors.append(of_tries[:, 0] + spread * rng.normal(size=_N_DRAWS))
    return np.stack(errors, axis=1)


def _band(drawn: Floats, middle: float) -> tuple[float, float]:
    """Around the middle, as far as the draws spread to either side of theirs."""
    low, centre, high = np.quantile(drawn, [(1 - BAND) / 2, 0.5, (1 + BAND) / 2])
    return middle - _WIDER * float(centre - low), middle + _WIDER * float(high - centre)
