"""One-vs-rest logistic regression: for each class a binary one on standardised features, one penalty for all.

The same as scikit-learn's `OneVsRestClassifier(LogisticRegression(C=c))` on standardised features (the tests compare
them). The penalty is the one with the highest mAP on validation. How few examples of wide vectors are made cheap:
`softmax_regression.reduced`.

Shape letters: n examples, d feature width, C classes (`c` in lower case is the inverse penalty), r rank.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deponij.pipeline.cards import COUNT, FLAG, REAL, WORD, Condition, Fact, are_positive, rows_of
from deponij.pipeline.heads.head import Floats
from deponij.pipeline.heads.logistic import CHOICE_TOLERANCE, DEFAULT_CS
from deponij.pipeline.heads.softmax_regression import (
    moments,
    reduced,
    solve,
    standardise,
    standardised_rows,
)
from deponij.pipeline.metrics.multilabel import average_precision
from deponij.pipeline.multilabel.head import Bools, MultilabelHead
from deponij.pipeline.multilabel.registry import register
from deponij.pipeline.record_lists import rounded
from deponij.pipeline.unit_vectors import blocks
from deponij.store.scratch import converted

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression


@dataclass(frozen=True, slots=True)
class Trial:
    """One inverse penalty, and mAP and mean log-loss of all pairs of item and class on validation."""

    c: float
    map_macro: float
    log_loss: float


@register("one-vs-rest")
@dataclass(eq=False)
class OneVsRest(MultilabelHead):
    """Binary logistic regressions with an L2 penalty, solved by L-BFGS to convergence.

    Each c of the grid is fitted on the training examples; the highest mAP on validation wins, ties go to the lower
    log-loss and then to the smaller c. Without validation it is the middle of the grid. A class that no training example
    has, or all have, is answered by how often it occurs alone, (positives + 1/2) / (n + 1).

    One thread is used, so that the same examples give the same bytes whatever the machine's count.

    Args:
        cs: inverse penalties to choose from, as scikit-learn's C.
        max_iter: L-BFGS iterations of one fit.
        tolerance: largest gradient component at which the last fit counts as converged.

    Attributes:
        c_: the chosen one.
        trials_: what was tried.
        chosen_on_: `validation` or `nothing`.
        mean_, scale_: of the standardisation, float32 [d].
        coef_, intercept_: float32 [C, d] and [C].
        converged_, n_iter_: of the last fits, all of them, and the most iterations.
    """

    title: ClassVar[str] = "one-vs-rest logistic regression"
    apply: ClassVar[str] = "log_odds = ((features - mean) / scale) @ weight.T + bias"
    tensors: ClassVar[Mapping[str, str]] = {
        "mean": "mean_",
        "scale": "scale_",
        "weight": "coef_",
        "bias": "intercept_",
    }
    shapes: ClassVar[Mapping[str, str]] = {"mean": "d", "scale": "d", "weight": "C d", "bias": "C"}
    facts: ClassVar[Mapping[str, Fact]] = {
        "c": REAL,
        "chosen_on": WORD,
        "converged": FLAG,
        "n_iter": COUNT,
        "trials": rows_of(Trial),
    }

    cs: Sequence[float] = DEFAULT_CS
    max_iter: int = 1000
    tolerance: float = 1e-4

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Log-odds [n, C] of features [n, d]; see `MultilabelHead`."""
        features, weight = self._check_width(X), self.coef_.astype(np.float64).T
        log_odds = np.empty((len(features), weight.shape[1]))
        for some in blocks(*features.shape):
            rows = standardised_rows(features[some], self.mean_, self.scale_)
            log_odds[some] = rows @ weight + self.intercept_
        return log_odds

    @property
    def protocol(self) -> str:
        """In words: what was learned from what, and chosen on what."""
        choice = f"C = {self.c_:g}"
        if self.chosen_on_ != "nothing":
            choice += f" of {len(self.trials_)} by mAP on {self.chosen_on_}"
        return f"one-vs-rest logistic regression on standardised features; {choice}; fitted on training"

    def _conditions(self) -> Sequence[Condition]:
        return (
            (are_positive(self.cs), f"cs must be positive numbers, got {list(self.cs)}"),
            (
                self.max_iter >= 1 and self.tolerance > 0,
                f"max_iter and tolerance must be positive, got {self.max_iter} and {self.tolerance}",
            ),
        )

    def _learn(self, features: Floats, truth: Bools, validation: tuple[Floats, Bools] | None) -> None:
        self.mean_, self.scale_ = moments(features)
        cs = sorted({float(c) for c in self.cs})
        self.chosen_on_, self.c_ = "nothing", cs[len(cs) // 2]
        self.trials_: tuple[Trial, ...] = ()
        standard = standardise(features, self.mean_, self.scale_)
        if validation is not None and validation[1].any() and len(cs) > 1:
            self.chosen_on_ = "validation"
            self.trials_ = self._try_all(cs, converted(standard, np.float32), truth, validation)
            self.c_ = min(self.trials_, key=lambda one: (-one.map_macro, one.log_loss, one.c)).c
        fits = _Fits(self._model(self.tolerance), standard, truth)
        weight, bias = fits.at(self.c_)
        self.coef_, self.intercept_ = weight.astype(np.float32), bias.astype(np.float32)
        self.converged_, self.n_iter_ = fits.converged, fits.n_iter

    def _try_all(
        self, cs: Sequence[float], standard: Floats, truth: Bools, validation: tuple[Floats, Bools]
    ) -> tuple[Trial, ...]:
        features, val_truth = validation
        rows = standardise(features, self.mean_, self.scale_)
        fits, trials = _Fits(self._model(CHOICE_TOLERANCE), standard, truth), []
        for c in cs:
            weight, bias = fits.at(c)
            log_odds = rows @ weight.T + bias
            of_classes = [
                average_precision(val_truth[:, k], log_odds[:, k])[0] for k in range(val_truth.shape[1])
            ]
            log_loss = np.logaddexp(0, np.where(val_truth, -log_odds, log_odds)).mean()
            # Six digits, so that no last bit decides what is chosen.
            trials.append(Trial(c, rounded(float(np.nanmean(of_classes))), rounded(float(log_loss))))
        return tuple(trials)

    def _model(self, tolerance: float) -> "LogisticRegression":
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(max_iter=self.max_iter, tol=tolerance, warm_start=True)


class _Fits:
    """Binary fits of all classes at one c after the other, each from where the last one of its class ended."""

    def __init__(self, model: "LogisticRegression", standard: Floats, truth: Bools) -> None:
        from sklearn.base import clone

        self._rows, self._back = reduced(standard)
        self._truth, self._width = truth, standard.shape[1]
        self._varies = truth.any(axis=0) & ~truth.all(axis=0)
        self._models = [clone(model) for _ in range(truth.shape[1])]
        self.converged, self.n_iter = True, 0

    def at(self, c: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weights [C, d] and biases [C]."""
        n, n_classes = self._truth.shape
        weight = np.zeros((n_classes, self._width))
        share = (self._truth.sum(axis=0) + 0.5) / (n + 1)
        bias = np.log(share) - np.log1p(-share)
        for k in np.flatnonzero(self._varies).tolist():
            fit = solve(self._models[k].set_params(C=c), self._rows, self._truth[:, k].astype(np.str_))
            # Of two classes it gives half the difference each way.
            weight[k] = self._back(fit.weight[1] - fit.weight[0])
            bias[k] = fit.bias[1] - fit.bias[0]
            self.converged &= fit.converged
            self.n_iter = max(self.n_iter, fit.n_iter)
        return weight, bias
