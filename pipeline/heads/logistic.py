"""The logistic probe: multinomial logistic regression on standardised features.

The penalty's strength C is chosen on validation, as dinov2's `eval/log_regression.py` does; the usual grid
is shorter and coarser, `DINOV2_CS` is theirs. Heads that learn by gradient steps, and many heads at once, do not live here.

Shape letters: n examples, d feature width, C classes (`c` in lower case is the inverse penalty).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deponij.pipeline.cards import (
    COUNT,
    FLAG,
    REAL,
    WORD,
    Condition,
    Fact,
    are_positive,
    rows_of,
)
from deponij.pipeline.heads.choosing import Halves, halves, validation_pair, worth
from deponij.pipeline.heads.head import AffineHead, Floats, Names, check_examples, check_learnable
from deponij.pipeline.heads.registry import register
from deponij.pipeline.heads.softmax_regression import moments, solve, standardise, standardised_rows
from deponij.pipeline.unit_vectors import blocks

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

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
@dataclass(eq=False)
class LogisticProbe(AffineHead):
    """Logistic regression with an L2 penalty on the weights, solved by L-BFGS to convergence.

    Each C of the grid is fitted on the training examples and scored on validation; the highest top-1
    wins, ties go to the lower log-loss and then to the smaller C. Validation examples of classes that
    training lacks count as wrong. The chosen C is then fitted anew on the training examples alone, so that
    validation stays fresh for calibration and for weighing ensembles. Without a validation pair a stratified
    tenth of the training examples (at least one of each class that has two) is held out for the choice and
    returns for the last fit.

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
        c_: the chosen C.
        trials_: what was tried, empty when there was nothing to choose.
        mean_, scale_: of the standardisation, float32 [d]; constant columns have scale 1.
        coef_, intercept_: float32 [C, d] and [C], for standardised features.
        converged_, n_iter_: of the last fit.
        n_constant_: constant columns.
        chosen_on_: `validation`, `held-out tenth of training` or `nothing`.
    """

    title: ClassVar[str] = "linear probe (logistic regression)"
    choices: ClassVar[Mapping[str, str]] = {"cs": "c_"}
    apply: ClassVar[str] = "logits = ((features - mean) / scale) @ weight.T + bias"
    tensors: ClassVar[Mapping[str, str]] = {
        "mean": "mean_",
        "scale": "scale_",
        "weight": "coef_",
        "bias": "intercept_",
    }
    shapes: ClassVar[Mapping[str, str]] = {"mean": "d", "scale": "d", **AffineHead.shapes}
    facts: ClassVar[Mapping[str, Fact]] = {
        "c": REAL,
        "chosen_on": WORD,
        "converged": FLAG,
        **dict.fromkeys(("n_iter", "n_constant"), COUNT),
        "trials": rows_of(Trial),
    }

    cs: Sequence[float] | Literal["dinov2"] = DEFAULT_CS
    max_iter: int = 1000
    tolerance: float = 1e-4
    seed: int = 0
    balance: Literal["none", "class-weights"] = "none"

    def fit(
        self, X: ArrayLike, y: ArrayLike, X_val: ArrayLike | None = None, y_val: ArrayLike | None = None
    ) -> Self:
        """Choose C and learn from features [n, d] and class names [n].

        Raises:
            DataError: no examples, one class only, NaN or infinite values, features that are the same
                for every example, widths that differ, or no validation example of a trained class.
            UsageError: a parameter out of its range.
        """
        self.check_params()
        features, names = check_examples(X, y, "training features")
        check_learnable(features, names)
        self.classes_ = np.unique(names)
        self.n_features_in_ = features.shape[1]
        validation = validation_pair(X_val, y_val, self.classes_, self.n_features_in_)
        self.c_, self.trials_ = self._choose(features, names, validation)
        self._fit_last(features, names)
        return self

    def _ready(self, features: Floats, what: str) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        for some in blocks(*features.shape):
            yield some, standardised_rows(features[some], self.mean_, self.scale_)

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

    def _conditions(self) -> Sequence[Condition]:
        cs = self._grid()
        return (
            (are_positive(cs), f"cs must be positive numbers, got {list(cs)}"),
            (
                self.max_iter >= 1 and self.tolerance > 0,
                f"max_iter and tolerance must be positive, got {self.max_iter} and {self.tolerance}",
            ),
            (self.seed >= 0, f"seed must be 0 or more, got {self.seed}"),
            (
                self.balance in ("none", "class-weights"),
                f"balance must be none or class-weights, got {self.balance!r}",
            ),
        )

    def _choose(
        self, features: Floats, names: Names, validation: tuple[Floats, Names] | None
    ) -> tuple[float, tuple[Trial, ...]]:
        cs = sorted({float(c) for c in self._grid()})
        parts = halves(features, names, validation, self.seed)
        can_choose = len(parts.validation[1]) > 0 and len(np.unique(parts.names)) > 1
        if len(cs) == 1 or not can_choose:
            self.chosen_on_ = "nothing"
            return cs[len(cs) // 2], ()
        self.chosen_on_ = parts.told
        trials = self._try_all(cs, parts)
        best = min(trials, key=lambda trial: (-trial.top1, trial.log_loss, trial.c))
        return best.c, trials

    def _try_all(self, cs: Sequence[float], parts: Halves) -> tuple[Trial, ...]:
        mean, scale = moments(parts.features)
        standard = standardise(parts.features, mean, scale, np.float32)
        standard_val = standardise(parts.validation[0], mean, scale)
        # Each solution is where the search for the next one starts.
        model = self._model(CHOICE_TOLERANCE).set_params(warm_start=True)
        trials = []
        for c in cs:
            fit = solve(model.set_params(C=c), standard, parts.names)
            logits = standard_val @ fit.weight.T + fit.bias
            trials.append(Trial(c, *worth(logits, np.unique(parts.names), parts.validation[1])))
        return tuple(trials)

    def _model(self, tolerance: float) -> "LogisticRegression":
        from sklearn.linear_model import LogisticRegression

        class_weight = "balanced" if self.balance == "class-weights" else None
        return LogisticRegression(max_iter=self.max_iter, tol=tolerance, class_weight=class_weight)

    def _fit_last(self, features: Floats, names: Names) -> None:
        self.mean_, self.scale_ = moments(features)
        self.n_constant_ = int((np.ptp(features, axis=0) == 0).sum())
        standard = standardise(features, self.mean_, self.scale_)
        fit = solve(self._model(self.tolerance).set_params(C=self.c_), standard, names)
        self.converged_, self.n_iter_ = fit.converged, fit.n_iter
        self.coef_, self.intercept_ = fit.weight.astype(np.float32), fit.bias.astype(np.float32)
