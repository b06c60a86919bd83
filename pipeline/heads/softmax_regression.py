"""Multinomial logistic regression: the fits that heads, ensembles, learning curves and audits of labels share.

Pulled towards zero it is scikit-learn's (`solve`, and `fit_path` for questions that take dozens of fits). Pulled towards
given weights (`fit_pulled`) the objective is written here: scikit-learn's has no offset that could stand in for them.
One thread is used, so that the same examples give the same bytes whatever the machine's count.

Shape letters: n examples, d feature width, C classes (`c` in lower case is the inverse penalty), r rank.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from threadpoolctl import ThreadpoolController, threadpool_limits

from deponij.pipeline.heads.head import Floats, Names, softmax
from deponij.pipeline.unit_vectors import blocks
from deponij.store.errors import DataError
from deponij.store.scratch import scratch, taken

Wide = NDArray[np.float64]
# Inverse penalties of `fit_path`: scikit-learn's C times d, for standardised features, so that they mean the same at
# any width. The default is taken where there is nothing to choose on.
CS = (1.0, 10.0, 100.0, 1000.0)
DEFAULT_C = 100.0
# Fast rather than final.
_PATH_TOLERANCE, _PATH_ITERATIONS = 1e-4, 300


@dataclass(frozen=True, slots=True)
class Fit:
    """What a solver found.

    Attributes:
        weight: [C, d].
        bias: [C].
        converged: whether they are final.
        n_iter: steps of L-BFGS.
    """

    weight: Wide
    bias: Wide
    converged: bool
    n_iter: int


@dataclass(frozen=True, slots=True)
class Fitted:
    """A classifier of a path.

    Attributes:
        c: its inverse penalty.
        classes: [C], sorted.
        weight: float32 [C, d].
        bias: float32 [C].
    """

    c: float
    classes: Names
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def logits(self, features: Floats) -> Wide:
        """Logits [n, C]."""
        with threadpool_limits(limits=1):
            return (features @ self.weight.T + self.bias).astype(np.float64)

    def probs(self, features: Floats) -> Wide:
        """Probabilities [n, C]."""
        return np.asarray(softmax(self.logits(features)), dtype=np.float64)

    def answers(self, features: Floats) -> Names:
        """Class names [n]."""
        names: Names = self.classes[self.logits(features).argmax(axis=1)]
        return names


def moments(features: Floats) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of each column, [d] each; constant columns get scale 1."""
    mean = _sums(features) / len(features)
    deviation = np.sqrt(_sums(features, around=mean) / len(features))
    scale = np.where(np.ptp(features, axis=0) == 0, 1.0, deviation).astype(np.float32)
    return mean.astype(np.float32), np.where(scale == 0, np.float32(1), scale)


def _sums(features: Floats, around: Wide | None = None) -> Wide:
    """Of each column [d], or of the squares of what it is off; numpy, too, adds row after row."""
    sums = np.zeros(features.shape[1])
    for some in _cached(features):
        block = np.empty((1 + some.stop - some.start, len(sums)))
        block[0], rows = sums, block[1:]
        if around is None:
            rows[...] = features[some]
        else:
            np.subtract(features[some], around, out=rows)
            np.square(rows, out=rows)
        # The first one without the zeros, to which -0 would become 0.
        sums = (block if some.start else rows).sum(axis=0)
    return sums


def standardise(
    features: Floats, mean: Floats, scale: Floats, dtype: DTypeLike = np.float64
) -> NDArray[np.floating]:
    """Features [n, d] with the mean taken off, over the scale; computed in float64, and rounded to `dtype`."""
    standard = scratch(features.shape, dtype)
    for some in _cached(features):
        standard[some] = standardised_rows(features[some], mean, scale)
    return standard


def standardised_rows(features: Floats, mean: Floats, scale: Floats) -> Wide:
    """As `standardise`, of a few rows."""
    standard = features.astype(np.float64)
    standard -= mean
    standard /= scale
    return standard


def _cached(features: Floats) -> Iterator[slice]:
    """So few rows at a time that what is made of them stays in the processor's cache."""
    return blocks(len(features), 64 * features.shape[1])


def standardised(features: Floats, rows: NDArray[np.integer]) -> NDArray[np.float32]:
    """All features [n, d], each column with mean 0 and standard deviation 1.

    Args:
        rows: whose moments count; they need no labels.

    Raises:
        DataError: these rows all have the same features.
    """
    chosen = taken(features, rows)
    varies = np.ptp(chosen, axis=0) > 0
    if not varies.any():
        raise DataError(
            f"all {len(rows)} examples have the same (constant) features; nothing can be learned from them. "
            "Does the view hold what it should?"
        )
    # A column that does not vary where one learns tells nothing elsewhere.
    standard = standardise(features, *moments(chosen), np.float32)
    standard *= varies
    return standard


def solve(model: Any, features: Floats, names: Names) -> Fit:
    """Fit scikit-learn's `LogisticRegression`, from where it ended last if that is its setting.

    Args:
        features: [n, d].
        names: [n], of two classes or more.
    """
    from sklearn.exceptions import ConvergenceWarning

    with _thread_pools().limit(limits=1), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(features, names)
    converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    weight, bias = model.coef_.astype(np.float64), model.intercept_.astype(np.float64)
    if len(model.classes_) == 2:
        # It keeps one row for two classes; half of it each way is the same softmax.
        weight, bias = np.outer([-0.5, 0.5], weight), np.outer([-0.5, 0.5], bias)[:, 0]
    return Fit(weight, bias, converged, int(np.max(model.n_iter_)))


@cache
def _thread_pools() -> ThreadpoolController:
    """Those of the libraries that fit; to look for them takes longer than a small fit. Ask once these are imported."""
    return ThreadpoolController()


def fit_path(features: Floats, names: Names, cs: Sequence[float] = CS) -> Iterator[Fitted]:
    """One classifier for each c, from the smallest up; each is where the search for the next one starts.

    Args:
        features: [n, d], standardised.
        names: [n].
    """
    from sklearn.linear_model import LogisticRegression

    classes = np.unique(names)
    if len(classes) < 2:
        for c in sorted(cs):
            yield Fitted(c, classes, np.zeros((1, features.shape[1]), np.float32), np.zeros(1, np.float32))
        return
    model = LogisticRegression(tol=_PATH_TOLERANCE, max_iter=_PATH_ITERATIONS, warm_start=True)
    rows, back = reduced(features)
    for c in sorted(cs):
        fit = solve(model.set_params(C=c / features.shape[1]), rows, names)
        yield Fitted(c, classes, back(fit.weight).astype(np.float32), fit.bias.astype(np.float32))


def reduced(features: Floats) -> tuple[Floats, Callable[[Wide], Wide]]:
    """Features [n, r] that give the same penalised fits, and what turns weights for them, [..., r], into [..., d]."""
    with threadpool_limits(limits=1):
        base = _span(features)
        if base is None:
            return features, lambda weight: weight
        return features @ base, lambda weight: weight @ base.T


def _span(features: Floats) -> NDArray[np.float32] | None:
    """An orthonormal base [d, r] of the rows' span if that is narrower than d.

    With an L2 penalty the solution is a combination of the examples, so nothing is lost in this base, and few
    examples cost little however wide they are.
    """
    n, d = features.shape
    if n >= d:
        return None
    base: NDArray[np.float32] = np.linalg.qr(features.T)[0]
    return base


def fit_pulled(
    inputs: Wide,
    codes: NDArray[np.integer],
    towards: Wide,
    c: float,
    *,
    start: Wide | None = None,
    max_iter: int = 200,
) -> Fit:
    """Minimise c * (sum of log-losses) + |weight - towards|^2 / 2 by L-BFGS; logits = inputs @ weight.T, no bias.

    With few examples the weights stay where they start: at text vectors for a head, at the mean for an ensemble.

    Args:
        inputs: [n, d].
        codes: columns [n].
        towards: [C, d].
        c: as scikit-learn's C; at 0 the result would be `towards`.
        start: where to begin, [C, d]; by default at `towards`.
    """
    from scipy.optimize import minimize

    rows = np.arange(len(codes))

    def objective(flat: Wide) -> tuple[float, Wide]:
        weight = flat.reshape(towards.shape)
        logits = inputs @ weight.T  # [n, C]
        logits -= logits.max(axis=1, keepdims=True)
        powers = np.exp(logits)
        sums = powers.sum(axis=1)
        log_loss = float((np.log(sums) - logits[rows, codes]).sum())
        residuals = powers / sums[:, None]
        residuals[rows, codes] -= 1
        away = weight - towards
        gradient = c * (residuals.T @ inputs) + away
        return c * log_loss + 0.5 * float(np.square(away).sum()), gradient.ravel()

    first = towards if start is None else start
    with threadpool_limits(limits=1):
        solution = minimize(
            objective,
            first.ravel(),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": max_iter, "ftol": 1e-9, "gtol": 1e-6 * max(1.0, c * len(codes))},
        )
    weight = solution.x.reshape(towards.shape)
    return Fit(weight, np.zeros(len(weight)), bool(solution.success), int(solution.nit))
