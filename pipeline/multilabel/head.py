"""What every multi-label head is, what it checks and how it is saved. Which there are: `registry`.

A saved one is a folder with `multilabel.safetensors` (float32 tensors) and `multilabel.json`; nothing is pickled.

Shape letters: n examples, d feature width, C classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deponij.pipeline.cards import CardFolder, FeatureSource, Learned, LearnedCard, restored
from deponij.pipeline.heads.head import Floats, Names, check_features, check_varied
from deponij.pipeline.metrics.multilabel import choose_thresholds
from deponij.store.errors import DataError

Bools = NDArray[np.bool_]


class MultilabelCard(LearnedCard):
    """`multilabel.json`: all that is needed to apply the tensors without this project.

    `apply` says how log-odds come from features [n, d] and the tensors; probabilities are 1 / (1 + exp(-log-odds)), column
    i is `classes[i]`, answered from the probability `thresholds[i]` on. Of several `sources` the features stand side by
    side in this order.
    """

    format: Literal[1] = 1
    dim: int
    sources: tuple[FeatureSource, ...]
    thresholds: tuple[float, ...]


MULTILABEL_HEADS = CardFolder("multi-label head", "multilabel", MultilabelCard)


class MultilabelHead(Learned, ABC):
    """A classifier over feature vectors that answers each class by itself.

    Attributes:
        classes_: names [C].
        n_features_in_: d.
        sources_: what it learned from; set by `load`.
        thresholds_: float64 [C], probabilities from which on a class is answered.
        thresholds_from_: `validation`, or `one half`.
        constant_: classes that no training item has, or all have: their answer is the same for every item.
    """

    classes_: Names
    n_features_in_: int
    sources_: tuple[FeatureSource, ...]
    thresholds_: NDArray[np.float64]
    thresholds_from_: str
    constant_: tuple[str, ...]

    def fit(
        self,
        X: ArrayLike,
        Y: ArrayLike,
        classes: Sequence[str],
        X_val: ArrayLike | None = None,
        Y_val: ArrayLike | None = None,
    ) -> Self:
        """Learn from features [n, d] and truths [n, C]; choices, and thresholds, are made on the validation pair.

        Raises:
            DataError: the examples cannot be learned from; the message says why.
            UsageError: a parameter out of its range.
        """
        self.check_params()
        features, truth = check_multilabel(X, Y, len(classes), "training features")
        check_varied(features)
        varies = truth.any(axis=0) & ~truth.all(axis=0)
        if not varies.any():
            raise DataError(
                f"of {len(classes)} classes none is that of some training items and not of others; nothing can be learned"
            )
        validation = None
        if X_val is not None and Y_val is not None:
            validation = check_multilabel(X_val, Y_val, len(classes), "validation features")
            if validation[0].shape[1] != features.shape[1]:
                raise DataError(
                    f"training features have width {features.shape[1]}, validation features {validation[0].shape[1]}"
                )
        self.classes_, self.n_features_in_ = np.asarray(classes, dtype=np.str_), features.shape[1]
        self.constant_ = tuple(self.classes_[~varies].tolist())
        self._learn(features, truth, validation)
        self.thresholds_, self.thresholds_from_ = np.full(len(classes), 0.5), "one half"
        if validation is not None and validation[1].any():
            chosen = choose_thresholds(validation[1], self.predict_proba(validation[0]))
            self.thresholds_ = np.array([one.probability for one in chosen])
            self.thresholds_from_ = "validation"
        return self

    @abstractmethod
    def _learn(self, features: Floats, truth: Bools, validation: tuple[Floats, Bools] | None) -> None:
        """Set the learned attributes from checked examples."""

    @abstractmethod
    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Log-odds [n, C].

        Raises:
            DataError: wrong width, or values that are not finite.
        """

    @property
    @abstractmethod
    def protocol(self) -> str:
        """In words: what was learned from what, and chosen on what."""

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Probabilities [n, C]."""
        return probabilities(self.decision_function(X))

    def predict(self, X: ArrayLike) -> Bools:
        """Answers [n, C] at the thresholds."""
        answers: Bools = self.predict_proba(X) >= self.thresholds_
        return answers

    def notes(self) -> tuple[str, ...]:
        """What a reader of the fit's figures must know."""
        notes = []
        if self.constant_:
            shown = ", ".join(self.constant_[:10]) + (" …" if len(self.constant_) > 10 else "")
            notes.append(
                f"No training item has these classes, or all have, so that nothing was learned of them: {shown}."
            )
        if self.thresholds_from_ == "one half":
            notes.append(
                "Without validation items every class is answered from a probability of one half on."
            )
        if getattr(self, "converged_", None) is False:
            notes.append("The fit had not converged; raise max_iter or choose among smaller cs.")
        return tuple(notes)

    def files(self, sources: Sequence[FeatureSource]) -> dict[str, bytes]:
        """Content of the files of a saved head, by name; the same head gives the same bytes."""
        return MULTILABEL_HEADS.files(
            self._tensors(),
            lambda sha256: MultilabelCard(
                kind=self.kind,
                apply=self.apply,
                dim=self.n_features_in_,
                classes=tuple(self.classes_.tolist()),
                sources=tuple(sources),
                thresholds=tuple(self.thresholds_.tolist()),
                protocol=self.protocol,
                params=self.plain_params(),
                learned=self._learned(),
                tensors_sha256=sha256,
            ),
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a saved head of this kind.

        Raises:
            StoreError: the folder holds no such head, a damaged one, or one of another kind.
        """
        card, tensors = MULTILABEL_HEADS.read(folder, cls.kind)

        def begin(head: Self) -> NDArray[np.float64]:
            head.classes_ = np.asarray(card.classes, dtype=np.str_)
            head.n_features_in_, head.sources_ = card.dim, card.sources
            head.thresholds_ = np.asarray(card.thresholds, np.float64)
            if head.thresholds_.shape != head.classes_.shape:
                raise ValueError(f"{len(card.thresholds)} thresholds for {len(card.classes)} classes")
            return head.decision_function(np.ones((1, card.dim)))

        sizes = {"C": len(card.classes), "d": card.dim}
        return restored(cls, card, tensors, sizes, begin, folder / MULTILABEL_HEADS.card_name)

    def _check_width(self, X: ArrayLike) -> Floats:
        self._require_fit("classes_")
        features = check_features(X, "features")
        if features.shape[1] != self.n_features_in_:
            raise DataError(
                f"the head was learned from vectors of width {self.n_features_in_}, got width {features.shape[1]}; are "
                "these another backbone's features?"
            )
        return features


def probabilities(log_odds: Floats) -> NDArray[np.float64]:
    """The logistic function, without overflow."""
    from scipy.special import expit

    probs: NDArray[np.float64] = expit(log_odds)
    return probs


def check_multilabel(X: ArrayLike, Y: ArrayLike, n_classes: int, what: str) -> tuple[Floats, Bools]:
    """Features [n, d] with truths [n, C] each; `what` names the features in messages.

    Raises:
        DataError: as `check_features`; no examples, no classes, or shapes that differ.
    """
    features, truth = check_features(X, what), np.asarray(Y, dtype=bool)
    if not len(features) or not n_classes:
        raise DataError(
            f"{what}: {len(features)} examples of {n_classes} classes; check the split and the label column"
        )
    if truth.shape != (len(features), n_classes):
        raise DataError(
            f"{what}: {len(features)} rows of {n_classes} classes for truths of shape {truth.shape}"
        )
    return features, truth
