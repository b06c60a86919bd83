"""The logistic probe: multinomial logistic regression on standardised features.

The penalty's strength C is chosen on validation, as dinov2's `eval/log_regression.py` does; the usual grid
is shorter and coarser, `DINOV2_CS` is theirs. Heads that learn by gradient steps, and many heads at once, do not live here.

Shape letters: n examples, d feature width, C classes (`c` in lower case is the inverse penalty).
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import JsonValue
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from deponij.pipeline.heads.choosing import hold_out, validation_pair
from deponij.pipeline.heads.head import Floats, Head, Names, check_examples, check_learnable
from deponij.pipeline.heads.registry import register
from deponij.store.errors import UsageError

# Below 1e-4 thousands of examples are underfitted, above 1 the classes are separated and nothing changes.
DEFAULT_CS = tuple(float(f"{10.0**exponent:.4g}") for exponent in np.arange(-4, 0.1, 0.5))
# C_POWER_RANGE of dinov2's `eval/log_regression.py`.
DINOV2_CS = tuple(float(10.0**exponent) for exponent in np.linspace(-6, 5, 45))
# Which C is best does not depend on the last digits of the weights; the final fit does.
CHOICE_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Trial:
    """One C and how the probe that was fitted with it does on validation."""

    c: float
    top1: float
    log_loss: float


@register("logistic")
class LogisticProbe(ClassifierMixin, BaseEstimator, Head):  # type: ignore[misc]
    """Logistic regression with an L2 penalty on the weights, solved by L-BFGS to convergence.

    Each C of the grid is fitted on the training examples and scored on validation; the highest top-1
    wins, ties go to the lower log-loss and then to the smaller C. Validation examples of classes that
    training lacks count as wrong. The chosen C is then fitted anew on the training examples alone (as
    the thesis on TACO learns; so validation stays fresh for calibration and for weighing ensembles).
    Without a validation pair a stratified tenth of the training examples (at least one of each class
    that has two) is held out for the choice and returns for the last fit.

    One thread is used, so that the same examples give the same bytes whatever the machine's count.

    Args:
        cs: inverse penalties to choose from, as scikit-learn's C (it multiplies the sum of losses); `dinov2` for the
            45 of its evaluation.
        max_iter: L-BFGS iterations of one fit.
        tolerance: largest gradient component at which the last fit counts as converged.
        seed: of the hold-out.
        balance: `class-weights` gives every class the same say in the loss, however few its examples
            (scikit-learn's `balanced`); `none` gives every example the same.

    Attributes:
        c_: the chosen C. trials_: what was tried, empty when there was nothing to choose.
        mean_, scale_: of the standardisation, float32 [d]; constant columns have scale 1.
        coef_, intercept_: float32 [C, d] and [C], for standardised features.
        converged_, n_iter_: of the last fit. n_constant_: constant columns.
        chosen_on_: `validation`, `held-out tenth of training` or `nothing`.
    """

    title: ClassVar[str] = "linear probe (logistic regression)"
    learns_from: ClassVar[Literal["images", "texts"]] = "images"
    apply: ClassVar[str] = "logits = ((features - mean) / scale) @ weight.T + bias"

    def __init__(
        self,
        cs: Sequence[float] | Literal["dinov2"] = DEFAULT_CS,
        max_iter: int = 1000,
        tolerance: float = 1e-4,
        seed: int = 0,
        balance: Literal["none", "class-weights"] = "none",
    ) -> None:
        self.cs = cs
        self.max_iter = max_iter
        self.tolerance = tolerance
        self.seed = seed
        self.balance = balance

    def fit(
        self, X: ArrayLike, y: ArrayLike, X_val: ArrayLike | None = None, y_val: ArrayLike | None = None
    ) -> Self:
        """Choose C and learn from features [n, d] and class names [n].

        Raises:
            DataError: no examples, one class only, NaN or infinite values, features that are the same
                for every example, widths that differ, or no validation example of a trained class.
            UsageError: a parameter out of its range.
        """
        self._check_params()
        features, names = check_examples(X, y, "training features")
        check_learnable(features, names)
        self.classes_ = np.unique(names)
        self.n_features_in_ = features.shape[1]
        validation = validation_pair(X_val, y_val, self.classes_, self.n_features_in_)
        self.c_, self.trials_ = self._choose(features, names, validation)
        self._fit_last(features, names)
        return self

    def decision_function(self, X: ArrayLike) -> Floats:
        """Logits [n, C] of features [n, d]; see `Head`."""
        features = self._check_width(X)
        standard = _standardise(features, self.mean_, self.scale_)
        logits: Floats = standard @ self.coef_.astype(np.float64).T + self.intercept_
        return logits

    @property
    def protocol(self) -> str:
        """In words: what was learned from what, and chosen on what."""
        choice = f"C = {self.c_:g}"
        if self.chosen_on_ != "nothing":
            choice += f" of {len(self.trials_)} by top-1 on {self.chosen_on_}"
        weighed = "; classes weighed equally" if self.balance == "class-weights" else ""
        return f"logistic regression on standardised features; {choice}; fitted on training{weighed}"

    def _grid(self) -> Sequence[float]:
        return DINOV2_CS if isinstance(self.cs, str) else self.cs

    def _check_params(self) -> None:
        wrong = []
        cs = self._grid()
        if len(cs) == 0 or not all(np.isfinite(c) and c > 0 for c in cs):
            wrong.append(f"cs must be positive numbers, got {list(cs)}")
        if self.max_iter < 1 or not self.tolerance > 0:
            wrong.append(f"max_iter and tolerance must be positive, got {self.max_iter} and {self.tolerance}")
        if self.balance not in ("none", "class-weights"):
            wrong.append(f"balance must be none or class-weights, got {self.balance!r}")
        if wrong:
            raise UsageError("logistic probe: " + "; ".join(wrong))

    def _choose(
        self, features: Floats, names: Names, validation: tuple[Floats, Names] | None
    ) -> tuple[float, tuple[Trial, ...]]:
        cs = sorted({float(c) for c in self._grid()})
        self.chosen_on_ = "validation"
        if validation is None and len(cs) > 1:
            held_out = hold_out(names, self.seed)
            self.chosen_on_ = f"a held-out tenth of training (n = {held_out.sum()})"
            validation = features[held_out], names[held_out]
            features, names = features[~held_out], names[~held_out]
        if len(cs) == 1 or validation is None or len(validation[1]) == 0 or len(np.unique(names)) < 2:
            self.chosen_on_ = "nothing"
            return cs[len(cs) // 2], ()
        trials = self._try_all(cs, features, names, validation)
        best = min(trials, key=lambda trial: (-trial.top1, trial.log_loss, trial.c))
        return best.c, trials

    def _try_all(
        self, cs: Sequence[float], features: Floats, names: Names, validation: tuple[Floats, Names]
    ) -> tuple[Trial, ...]:
        mean, scale = _moments(features)
        standard = _standardise(features, mean, scale).astype(np.float32)
        standard_val = _standardise(validation[0], mean, scale).astype(np.float32)
        # Each solution is where the search for the next one starts.
        model = self._model(CHOICE_TOLERANCE).set_params(warm_start=True)
        trials = []
        with threadpool_limits(limits=1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            for c in cs:
                model.set_params(C=c).fit(standard, names)
                probs = model.predict_proba(standard_val)
                trials.append(_trial(c, probs, model.classes_, validation[1]))
        return tuple(trials)

    def _model(self, tolerance: float) -> LogisticRegression:
        class_weight = "balanced" if self.balance == "class-weights" else None
        return LogisticRegression(max_iter=self.max_iter, tol=tolerance, class_weight=class_weight)

    def _fit_last(self, features: Floats, names: Names) -> None:
        self.mean_, self.scale_ = _moments(features)
        self.n_constant_ = int((np.ptp(features, axis=0) == 0).sum())
        standard = _standardise(features, self.mean_, self.scale_)
        model = self._model(self.tolerance).set_params(C=self.c_)
        with threadpool_limits(limits=1), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(standard, names)
        self.converged_ = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
        self.n_iter_ = int(np.max(model.n_iter_))
        coef, intercept = model.coef_, model.intercept_
        if len(self.classes_) == 2:
            # scikit-learn keeps one row for two classes; half of it each way is the same softmax.
            coef, intercept = np.outer([-0.5, 0.5], coef), np.outer([-0.5, 0.5], intercept)[:, 0]
        self.coef_ = coef.astype(np.float32)
        self.intercept_ = intercept.astype(np.float32)

    def _learned(self) -> dict[str, JsonValue]:
        return {
            "c": self.c_,
            "chosen_on": self.chosen_on_,
            "converged": self.converged_,
            "n_iter": self.n_iter_,
            "n_constant": self.n_constant_,
            "trials": [[trial.c, trial.top1, trial.log_loss] for trial in self.trials_],
        }

    def _tensors(self) -> dict[str, NDArray[np.float32]]:
        return {"mean": self.mean_, "scale": self.scale_, "weight": self.coef_, "bias": self.intercept_}

    def _restore(self, tensors: Mapping[str, NDArray[np.float32]], learned: Mapping[str, Any]) -> None:
        self.mean_, self.scale_ = tensors["mean"], tensors["scale"]
        self.coef_, self.intercept_ = tensors["weight"], tensors["bias"]
        self.c_, self.chosen_on_ = learned["c"], learned["chosen_on"]
        self.converged_, self.n_iter_ = learned["converged"], learned["n_iter"]
        self.n_constant_ = learned["n_constant"]
        self.trials_ = tuple(Trial(*values) for values in learned["trials"])


def _moments(features: Floats) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of each column, [d] each; constant columns get scale 1."""
    wide = features.astype(np.float64)
    scale = np.where(np.ptp(wide, axis=0) == 0, 1.0, wide.std(axis=0)).astype(np.float32)
    return wide.mean(axis=0).astype(np.float32), np.where(scale == 0, np.float32(1), scale)


def _standardise(features: Floats, mean: Floats, scale: Floats) -> NDArray[np.float64]:
    standard: NDArray[np.float64] = (features.astype(np.float64) - mean) / scale
    return standard


def _trial(c: float, probs: Floats, classes: Names, truth: Names) -> Trial:
    correct = classes[probs.argmax(axis=1)] == truth
    # A class that training lacks has no column; it costs the same whatever C is.
    known = np.flatnonzero(np.isin(truth, classes))
    columns = np.searchsorted(classes, truth[known])
    likelihood = probs[known, columns].astype(np.float64)
    log_loss = -np.log(np.maximum(likelihood, np.finfo(np.float64).tiny)).mean() if len(known) else 0.0
    return Trial(c, float(correct.mean()), float(log_loss))
