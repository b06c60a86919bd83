"""Logistic regression for questions that take dozens of fits, such as learning curves and audits of labels.

Fast rather than final: few penalties, a loose tolerance, nothing is saved. The head that people keep, which is
fitted to convergence, lives in `deponij.pipeline.heads`.

Shape letters: n examples, d feature width, C classes, r rank.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from deponij.pipeline.heads.head import Floats, Names, softmax
from deponij.store.errors import DataError

# Inverse penalties: scikit-learn's C times d, for standardised features, so that they mean the same at any width.
CS = (1.0, 10.0, 100.0, 1000.0)
# Taken where there is nothing to choose on.
DEFAULT_C = 100.0
_TOLERANCE = 1e-4
_MAX_ITER = 300


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted classifier.

    Attributes:
        c: its inverse penalty.
        classes: [C], sorted. weight: float32 [C, d]. bias: float32 [C].
    """

    c: float
    classes: Names
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def probs(self, features: Floats) -> NDArray[np.float64]:
        """Probabilities [n, C]."""
        with threadpool_limits(limits=1):
            logits = (features @ self.weight.T + self.bias).astype(np.float64)
        return np.asarray(softmax(logits), dtype=np.float64)

    def answers(self, features: Floats) -> Names:
        """Class names [n]."""
        found: Names = self.classes[self.probs(features).argmax(axis=1)]
        return found


def standardised(features: Floats, rows: NDArray[np.integer]) -> NDArray[np.float32]:
    """All features [n, d], each column with mean 0 and standard deviation 1.

    Args:
        rows: whose moments count; they need no labels.

    Raises:
        DataError: these rows all have the same features.
    """
    known = features[rows].astype(np.float64)
    varies = np.ptp(known, axis=0) > 0
    if not varies.any():
        raise DataError(
            f"all {len(known)} examples have the same (constant) features; nothing can be learned from them. "
            "Does the view hold what it should?"
        )
    spread = known.std(axis=0)
    standard = (features.astype(np.float64) - known.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    # A column that does not vary where one learns tells nothing elsewhere.
    return np.asarray(standard * varies, dtype=np.float32)


def fit_path(features: Floats, names: Names, cs: Sequence[float] = CS) -> Iterator[Fitted]:
    """One classifier for each c, from the smallest up; each is where the search for the next one starts.

    Args:
        features: [n, d], standardised. names: [n].
    """
    classes = np.unique(names)
    if len(classes) < 2:
        for c in sorted(cs):
            yield Fitted(c, classes, np.zeros((1, features.shape[1]), np.float32), np.zeros(1, np.float32))
        return
    model = LogisticRegression(tol=_TOLERANCE, max_iter=_MAX_ITER, warm_start=True)
    with threadpool_limits(limits=1):
        base = _span(features)
        reduced = features if base is None else features @ base
    for c in sorted(cs):
        with threadpool_limits(limits=1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            # One example a class looks like regression to scikit-learn.
            warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
            model.set_params(C=c / features.shape[1]).fit(reduced, names)
        coef, bias = model.coef_, model.intercept_
        if len(classes) == 2:
            # scikit-learn keeps one row for two classes; half of it each way is the same softmax.
            coef, bias = np.outer([-0.5, 0.5], coef), np.outer([-0.5, 0.5], bias)[:, 0]
        weight = coef if base is None else coef @ base.T
        yield Fitted(c, classes, weight.astype(np.float32), bias.astype(np.float32))


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
