"""The nearest class mean.

Shape letters: n examples, d feature width, C classes.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import JsonValue

from deponij.pipeline.heads.choosing import validation_pair
from deponij.pipeline.heads.head import Floats, Head, check_examples, check_varied
from deponij.pipeline.heads.registry import register
from deponij.pipeline.heads.units import unit_rows
from deponij.store.errors import DataError, UsageError


@register("centroid")
class NearestClassMean(Head):
    """The class whose mean is nearest by Euclidean distance, as scikit-learn's `NearestCentroid`.

    By default features are brought to unit length first: then it is that of `Normalizer` and
    `NearestCentroid` one after the other, and lengths, which say little in these spaces, have no vote.
    Logits are minus half the squared distance (up to what is the same for all classes), times
    `scale` over the mean squared length of the training features; the scale changes no ranking.

    Args:
        normalise: whether features are brought to unit length.
        scale: of the logits.

    Attributes:
        coef_, intercept_: float32 [C, d] and [C]; a class's mean is `coef_ / gain_`.
        gain_: the factor of the logits. n_examples_: of each class, [C].
    """

    title: ClassVar[str] = "nearest class mean"
    learns_from: ClassVar[Literal["images", "texts"]] = "images"
    apply: ClassVar[str] = "logits = (features / norm(features) ** normalise) @ weight.T + bias"

    def __init__(self, normalise: bool = True, scale: float = 100.0) -> None:
        self.normalise = normalise
        self.scale = scale

    def fit(
        self, X: ArrayLike, y: ArrayLike, X_val: ArrayLike | None = None, y_val: ArrayLike | None = None
    ) -> Self:
        """Average features [n, d] of each class; validation is checked, but there is nothing to choose.

        Raises:
            DataError: no examples, NaN or infinite values, vectors without length, widths that differ,
                or no validation example of a trained class.
            UsageError: a scale that is not positive.
        """
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise UsageError(f"nearest class mean: scale must be positive, got {self.scale}")
        features, names = check_examples(X, y, "training features")
        check_varied(features)
        self.classes_, codes = np.unique(names, return_inverse=True)
        self.n_features_in_ = features.shape[1]
        validation_pair(X_val, y_val, self.classes_, self.n_features_in_)
        rows = self._rows(features, "training features")
        self.n_examples_ = np.bincount(codes)
        means = np.zeros((len(self.classes_), features.shape[1]))
        np.add.at(means, codes, rows)
        means /= self.n_examples_[:, None]
        length = float(np.square(rows).sum(axis=1).mean())
        if length == 0:
            raise DataError("all training features are 0; does the view hold what it should?")
        self.gain_ = self.scale / length
        self.coef_ = (self.gain_ * means).astype(np.float32)
        self.intercept_ = (-0.5 * self.gain_ * np.square(means).sum(axis=1)).astype(np.float32)
        return self

    def decision_function(self, X: ArrayLike) -> Floats:
        """Logits [n, C] of features [n, d]; see `Head`."""
        rows = self._rows(self._check_width(X), "features")
        logits: Floats = rows @ self.coef_.astype(np.float64).T + self.intercept_
        return logits

    def _rows(self, features: Floats, what: str) -> NDArray[np.float64]:
        return unit_rows(features, what) if self.normalise else features.astype(np.float64)

    @property
    def protocol(self) -> str:
        """In words: what the means were made of."""
        fewest, most = int(self.n_examples_.min()), int(self.n_examples_.max())
        counts = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        what = "features of unit length" if self.normalise else "features"
        return f"Euclidean distance to the mean of {counts} training items a class, {what}; nothing to choose"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Constructor arguments."""
        return {"normalise": self.normalise, "scale": self.scale}

    def set_params(self, **params: Any) -> Self:
        """Set constructor arguments, in scikit-learn's manner."""
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def _learned(self) -> dict[str, JsonValue]:
        return {"gain": self.gain_, "n_examples": [int(count) for count in self.n_examples_]}

    def _tensors(self) -> dict[str, NDArray[np.float32]]:
        return {"weight": self.coef_, "bias": self.intercept_}

    def _restore(self, tensors: Mapping[str, NDArray[np.float32]], learned: Mapping[str, Any]) -> None:
        self.coef_, self.intercept_ = tensors["weight"], tensors["bias"]
        self.gain_ = learned["gain"]
        self.n_examples_ = np.asarray(learned["n_examples"], dtype=np.int64)
