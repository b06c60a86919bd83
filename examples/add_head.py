"""A head of one's own, in a file of one's own: least squares with a penalty (ridge), in closed form.

    python examples/add_head.py fit --head ridge --set penalty=10 \\
        --features view.h5 --items items --split split.parquet --labels label --out results/ridge

The decorator enters it, and from there it is a head like any other: `fit --head ridge`, saving as safetensors and
JSON, evaluation, calibration. Whoever loads what it saved imports this file first. A head that everybody should
have goes into `pipeline/heads/` as it stands; see CONTRIBUTING.md.

Shape letters: n examples, d feature width, C classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import JsonValue

from deponij.pipeline.cards import Condition
from deponij.pipeline.heads.choosing import validation_pair
from deponij.pipeline.heads.head import Floats, Head, check_examples, check_learnable
from deponij.pipeline.heads.registry import register


@register("ridge")
class Ridge(Head):
    """Least squares onto one column of 0 and 1 a class, as scikit-learn's `Ridge`; the intercept is not penalised.

    Args:
        penalty: on the squared length of each class's weights (scikit-learn calls it `alpha`).

    Attributes:
        coef_, intercept_: float32 [C, d] and [C].
    """

    title: ClassVar[str] = "ridge"
    learns_from: ClassVar[Literal["images", "texts"]] = "images"
    apply: ClassVar[str] = "logits = features @ weight.T + bias"

    def __init__(self, penalty: float = 1.0) -> None:
        self.penalty = penalty

    def fit(
        self, X: ArrayLike, y: ArrayLike, X_val: ArrayLike | None = None, y_val: ArrayLike | None = None
    ) -> Self:
        """Solve (Z'Z + penalty I) w = Z't for centred features Z [n, d] and targets t [n, C].

        Raises:
            DataError: examples that cannot be learned from. UsageError: a penalty that is not positive.
        """
        self.check_params()
        features, names = check_examples(X, y, "training features")
        check_learnable(features, names)
        self.classes_, codes = np.unique(names, return_inverse=True)
        self.n_features_in_ = features.shape[1]
        # There is nothing to choose; what was given is checked all the same.
        validation_pair(X_val, y_val, self.classes_, self.n_features_in_)
        targets = np.eye(len(self.classes_))[codes]  # [n, C]
        rows = features.astype(np.float64)
        centred = rows - rows.mean(axis=0)
        gram = centred.T @ centred + self.penalty * np.eye(rows.shape[1])  # [d, d]
        weights = np.linalg.solve(gram, centred.T @ (targets - targets.mean(axis=0))).T  # [C, d]
        self.coef_ = weights.astype(np.float32)
        self.intercept_ = (targets.mean(axis=0) - weights @ rows.mean(axis=0)).astype(np.float32)
        return self

    def _conditions(self) -> Sequence[Condition]:
        return ((self.penalty > 0, f"penalty must be positive, got {self.penalty}"),)

    def decision_function(self, X: ArrayLike) -> Floats:
        """Logits [n, C] of features [n, d]; see `Head`."""
        rows = self._check_width(X).astype(np.float64)
        logits: Floats = rows @ self.coef_.astype(np.float64).T + self.intercept_
        return logits

    @property
    def protocol(self) -> str:
        """In words: what was learned from what, and chosen on what."""
        return f"least squares onto the classes, penalty {self.penalty:g}; nothing to choose"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Constructor arguments."""
        return {"penalty": self.penalty}

    def set_params(self, **params: Any) -> Self:
        """Set constructor arguments, in scikit-learn's manner."""
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def _learned(self) -> dict[str, JsonValue]:
        return {}

    def _tensors(self) -> dict[str, NDArray[np.float32]]:
        return {"weight": self.coef_, "bias": self.intercept_}

    def _restore(self, tensors: Mapping[str, NDArray[np.float32]], learned: Mapping[str, Any]) -> None:
        self.coef_, self.intercept_ = tensors["weight"], tensors["bias"]


if __name__ == "__main__":
    from deponij.cli import main

    main()
