"""The zero-shot classifier: one unit vector a class, made of text vectors. No text is embedded here.

Shape letters: n images, m texts, d feature width, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from deponij.pipeline.cards import ARRAY, Condition, Fact, are_positive
from deponij.pipeline.heads.head import Floats, Head, check_examples, from_to
from deponij.pipeline.heads.registry import register
from deponij.pipeline.unit_vectors import class_means, cosines, directions


@register("zero-shot")
@dataclass(eq=False)
class ZeroShotClassifier(Head):
    """Logits = `scale` x cosine of image and class vector, as open_clip's `build_zero_shot_classifier`.

    Each text vector is L2-normalised, averaged within its class and the mean normalised again. The
    scale changes no ranking; 100 is the limit that CLIP's training puts on it. For a model that was
    trained with a sigmoid (SigLIP) the softmax over classes is a relative score, not its probability.

    Attributes:
        coef_: class vectors, float32 [C, d], of unit length.
        n_texts_: texts that each class was made of, [C].
    """

    title: ClassVar[str] = "zero-shot"
    learns_from: ClassVar[Literal["images", "texts"]] = "texts"
    starts_from_texts: ClassVar[bool] = True
    apply: ClassVar[str] = "logits = scale * (features / norm(features)) @ weight.T"

    tensors: ClassVar[Mapping[str, str]] = {"weight": "coef_"}
    shapes: ClassVar[Mapping[str, str]] = {"weight": "C d"}
    facts: ClassVar[Mapping[str, Fact]] = {"n_texts": ARRAY}

    scale: float = 100.0

    def fit(
        self, X: ArrayLike, y: ArrayLike, X_val: ArrayLike | None = None, y_val: ArrayLike | None = None
    ) -> Self:
        """Make class vectors of text vectors [m, d] and their classes' names [m]; validation is not used.

        Raises:
            DataError: no texts, NaN or infinite values, or vectors (or a class's mean) of length 0.
            UsageError: a scale that is not positive.
        """
        self.check_params()
        texts, names = check_examples(X, y, "text vectors")
        units = directions(texts, "text vectors")
        self.classes_, codes = np.unique(names, return_inverse=True)
        self.n_features_in_ = texts.shape[1]
        self.n_texts_ = np.bincount(codes)
        self.coef_ = directions(class_means(units, codes), "mean text vectors").astype(np.float32)
        return self

    def _conditions(self) -> Sequence[Condition]:
        return ((are_positive(self.scale), f"scale must be positive, got {self.scale}"),)

    def decision_function(self, X: ArrayLike) -> Floats:
        """Logits [n, C] of image features [n, d] of any length; see `Head`."""
        features = self._check_width(X)
        logits: Floats = self.scale * cosines(features, self.coef_, "features")
        return logits

    @property
    def protocol(self) -> str:
        """In words: what the class vectors were made of."""
        texts = from_to(self.n_texts_)
        return f"cosine to the mean of {texts} text vector{'' if texts == '1' else 's'} a class; no training"
