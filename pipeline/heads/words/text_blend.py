"""What heads share that blend zero-shot with what labelled images teach. The blends are `wise_ft` and `tip_adapter`.

Shape letters: n images, m texts, d feature width, C classes.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deponij.pipeline.cards import WORD, Condition, Fact, are_positive
from deponij.pipeline.heads.choosing import validation_pair
from deponij.pipeline.heads.head import Floats, Head, Names, check_examples, check_varied
from deponij.pipeline.heads.words.zero_shot import ZeroShotClassifier
from deponij.pipeline.unit_vectors import directions
from deponij.store.errors import DataError, UsageError

Wide = NDArray[np.float64]


class TextBlend(Head):
    """A head that starts from class vectors of text and learns from images.

    Text vectors are an argument of `fit`, like examples: they are data, no parameter. Without them the
    class means of the training features stand in, and the head is one over images alone. With texts it
    answers every class that has some, also those that training lacks.

    Args:
        scale: of the cosine; also the zero-shot classifier's.

    Attributes:
        zero_shot_: class vectors, float32 [C, d], of unit length.
        start_: what they were made of: `texts` or `class means`.
    """

    starts_from_texts: ClassVar[bool] = True
    tensors: ClassVar[Mapping[str, str]] = {"zero_shot": "zero_shot_"}
    shapes: ClassVar[Mapping[str, str]] = {"zero_shot": "C d"}
    facts: ClassVar[Mapping[str, Fact]] = {"start": WORD}

    scale: float

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
        *,
        texts: ArrayLike | None = None,
        text_names: ArrayLike | None = None,
    ) -> Self:
        """Learn from image features [n, d] and names [n], text vectors [m, d] and their classes' names [m].

        Raises:
            DataError: no examples, NaN or infinite values, vectors of length 0, widths that differ,
                a training class without text, or no validation example of any class.
            UsageError: a parameter out of its range, or texts without their classes' names.
        """
        self.check_params()
        features, names = check_examples(X, y, "training features")
        check_varied(features)
        zero_shot = self._start(features, names, texts, text_names)
        self.classes_, self.zero_shot_ = zero_shot.classes_, zero_shot.coef_
        self.n_features_in_ = features.shape[1]
        validation = validation_pair(X_val, y_val, self.classes_, self.n_features_in_)
        units = directions(features, "training features")
        val = (
            None if validation is None else (directions(validation[0], "validation features"), validation[1])
        )
        self._learn(units, np.searchsorted(self.classes_, names), val)
        return self

    @abstractmethod
    def _learn(self, units: Wide, codes: NDArray[np.int64], validation: tuple[Wide, Names] | None) -> None:
        """Learn from unit vectors [n, d] and columns [n]; validation holds unit vectors and names."""

    def _start(
        self, features: Floats, names: Names, texts: ArrayLike | None, text_names: ArrayLike | None
    ) -> ZeroShotClassifier:
        if (texts is None) != (text_names is None):
            raise UsageError(
                "text vectors and the names of their classes go together; one of them is missing"
            )
        self.start_ = "class means" if texts is None else "texts"
        head = ZeroShotClassifier(self.scale)
        if texts is None or text_names is None:
            return head.fit(features, names)
        head.fit(texts, text_names)
        if head.n_features_in_ != features.shape[1]:
            raise DataError(
                f"training features have width {features.shape[1]}, text vectors {head.n_features_in_}; "
                "are they of the same model?"
            )
        missing = sorted(set(names.tolist()) - set(head.classes_.tolist()))
        if missing:
            raise DataError(f"{len(missing)} classes of training have no text vectors: {missing[:10]}")
        return head

    def _zero_shot_logits(self, units: Wide) -> Wide:
        logits: Wide = self.scale * (units @ self.zero_shot_.astype(np.float64).T)
        return logits

    def _conditions(self) -> Sequence[Condition]:
        return ((are_positive(self.scale), f"scale must be positive, got {self.scale}"),)
