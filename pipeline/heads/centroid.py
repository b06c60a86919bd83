"""The nearest class mean.

Shape letters: n examples, d feature width, C classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deponij.pipeline.cards import ARRAY, REAL, Condition, Fact, are_positive
from deponij.pipeline.heads.choosing import validation_pair
from deponij.pipeline.heads.head import AffineHead, Floats, check_examples, check_varied, from_to
from deponij.pipeline.heads.registry import register
from deponij.pipeline.unit_vectors import directions_in_blocks
from deponij.store.errors import DataError


@register("centroid")
@dataclass(eq=False)
class NearestClassMean(AffineHead):
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
        gain_: the factor of the logits.
        n_examples_: of each class, [C].
    """

    title: ClassVar[str] = "nearest class mean"
    apply: ClassVar[str] = "logits = (features / norm(features) ** normalise) @ weight.T + bias"
    facts: ClassVar[Mapping[str, Fact]] = {"gain": REAL, "n_examples": ARRAY}

    normalise: bool = True
    scale: float = 100.0

    def fit(
        self, X: ArrayLike, y: ArrayLike, X_val: ArrayLike | None = None, y_val: ArrayLike | None = None
    ) -> Self:
        """Average features [n, d] of each class; validation is checked, but there is nothing to choose.

        Raises:
            DataError: no examples, NaN or infinite values, vectors without length, widths that differ,
                or no validation example of a trained class.
            UsageError: a scale that is not positive.
        """
        self.check_params()
        features, names = check_examples(X, y, "training features")
        check_varied(features)
        self.classes_, codes = np.unique(names, return_inverse=True)
        self.n_features_in_ = features.shape[1]
        validation_pair(X_val, y_val, self.classes_, self.n_features_in_)
        self.n_examples_ = np.bincount(codes)
        sums, lengths = np.zeros((len(self.classes_), self.n_features_in_)), np.empty(len(names))
        for some, rows in self._ready(features, "training features"):
            np.add.at(sums, codes[some], rows)
            lengths[some] = np.square(rows).sum(axis=1)
        means, length = sums / self.n_examples_[:, None], float(lengths.mean())
        if length == 0:
            raise DataError("all training features are 0; does the view hold what it should?")
        self.gain_ = self.scale / length
        self.coef_ = (self.gain_ * means).astype(np.float32)
        self.intercept_ = (-0.5 * self.gain_ * np.square(means).sum(axis=1)).astype(np.float32)
        return self

    def _conditions(self) -> Sequence[Condition]:
        return ((are_positive(self.scale), f"scale must be positive, got {self.scale}"),)

    def _ready(self, features: Floats, what: str) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        return directions_in_blocks(features, what) if self.normalise else super()._ready(features, what)

    @property
    def protocol(self) -> str:
        """In words: what the means were made of."""
        counts = from_to(self.n_examples_)
        what = "features of unit length" if self.normalise else "features"
        return f"Euclidean distance to the mean of {counts} training items a class, {what}; nothing to choose"
