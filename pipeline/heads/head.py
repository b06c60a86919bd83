"""What every head is, what it checks and how it is saved. Which heads there are: `registry`.

Shape letters: n examples, d feature width, h and w sides of a grid, C classes. A saved head is a folder with
`head.safetensors` (float32 tensors) and `head.json` (a `HeadCard`); nothing is pickled.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median_low
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import JsonValue

from deponij.pipeline.cards import CardFolder, FeatureSource, Learned, LearnedCard, restored
from deponij.pipeline.heads.examples import Examples
from deponij.pipeline.unit_vectors import blocks
from deponij.store.errors import DataError
from deponij.store.scratch import finite_rows

Floats = NDArray[np.floating]
Names = NDArray[np.str_]
# Which token stands for a picture.


class HeadCard(LearnedCard):
    """`head.json`: all that is needed to apply the tensors without this project.

    `apply` says how logits come from features [n, d], of heads that read maps [n, d, h, w], and the tensors;
    probabilities are the softmax of the logits, and column i is `classes[i]`. Of several `sources` the features stand
    side by side in this order.
    """

    format: Literal[2] = 2
    dim: int
    sources: tuple[FeatureSource, ...]


HEADS = CardFolder("head", "head", HeadCard, newest=2)


class Head(Learned, ABC):
    """A classifier over feature vectors; see `Learned` for what each one says of itself.

    Attributes:
        learns_from: whether `fit` takes labelled image features or text vectors with their classes.
        starts_from_texts: whether class vectors of text are what it learns from, or starts from.
        choices: parameters that are chosen from, and the attribute that holds what was.
        remembers: in words, why answers to training examples say nothing; empty where they do.
        reads: what features are: `vectors` [n, d], or `maps` [n, d, h, w] that may be read bit by bit (`heads.maps`).
        takes_tokens: whether features of kind `tokens@K` are for it, flattened, told by `n_blocks` and `has_patches`.
        classes_: names [C], sorted; learned by `fit`.
        n_features_in_: d; learned by `fit`.
        sources_: what it learned from, side by side in this order; set by `load`.
    """

    learns_from: ClassVar[Literal["images", "texts"]] = "images"
    reads: ClassVar[Literal["vectors", "maps"]] = "vectors"
    takes_tokens: ClassVar[bool] = False
    starts_from_texts: ClassVar[bool] = False
    choices: ClassVar[Mapping[str, str]] = {}
    remembers: ClassVar[str] = ""

    classes_: Names
    n_features_in_: int
    sources_: tuple[FeatureSource, ...]

    @abstractmethod
    def fit(
        self, X: ArrayLike, y: ArrayLike, X_val: ArrayLike | None = None, y_val: ArrayLike | None = None
    ) -> Self:
        """Learn from features [n, d] and class names [n]; choices are made on the validation pair.

        Raises:
            DataError: the examples cannot be learned from; the message says why.
            UsageError: a parameter out of its range.
        """

    @abstractmethod
    def decision_function(self, X: ArrayLike) -> Floats:
        """Logits [n, C], float64.

        Raises:
            DataError: wrong width, or values that are not finite.
        """

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Softmax of the logits, [n, C]."""
        return softmax(self.decision_function(X))

    def predict(self, X: ArrayLike) -> Names:
        """Best class name of each row [n]; ties go to the class that sorts first."""
        best = self.decision_function(X).argmax(axis=1)
        names: Names = self.classes_[best]
        return names

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """Share of rows [n] that are answered with their class [n]."""
        return float((self.predict(X) == np.asarray(y)).mean())

    def settled(self, fitted: Sequence["Head"]) -> Self:
        """This head unfitted, with the median of what fits on other items chose in place of the choice.

        For learning from all items at the end of cross-validation, when none is left to choose on.
        """
        params = self.get_params()
        for name, learned in self.choices.items():
            usual = median_low(getattr(one, learned) for one in fitted)
            params[name] = usual if isinstance(params[name], (int, float)) else (usual,)
        return type(self)(**params)

    @property
    @abstractmethod
    def protocol(self) -> str:
        """In words: what was learned from what, and chosen on what."""

    def notes(self) -> tuple[str, ...]:
        """What a reader of the fit's figures must know."""
        notes = []
        if self.remembers:
            notes.append(f"{self.remembers}; figures of the training part say nothing.")
        if getattr(self, "converged_", None) is False:
            notes.append("The fit had not converged; raise max_iter or choose among smaller cs.")
        return tuple(notes)

    def study(
        self, X: Floats, examples: Examples, per_class: Sequence[int] = (), tries: int = 1
    ) -> dict[str, JsonValue]:
        """What else a head can tell of all examples and their features [n, d].

        It is fitted, but where the examples are of folds: a head that has learned from them all would tell of itself.

        Args:
            per_class: few-shot: examples of each class to learn from; empty for none.
            tries: how often others are drawn, with the seeds 0, 1, …
        """
        return {}

    def save(self, folder: Path, sources: Sequence[FeatureSource]) -> None:
        """Write `head.safetensors` and `head.json` as one; the same head gives the same bytes.

        Args:
            folder: for the head alone; made where it is missing.
            sources: what the features are, in the order in which they stand side by side.

        Raises:
            StoreError: the folder holds anything else, or cannot be written.
        """
        HEADS.write(folder, self.files(sources))

    def files(self, sources: Sequence[FeatureSource]) -> dict[str, bytes]:
        """Content of the files that `save` writes, by name."""
        return HEADS.files(
            self._tensors(),
            lambda sha256: HeadCard(
                kind=self.kind,
                apply=self.apply,
                dim=self.n_features_in_,
                classes=tuple(self.classes_.tolist()),
                sources=tuple(sources),
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
            StoreError: the folder holds no head, a damaged one, or one of another kind.
        """
        card, tensors = HEADS.read(folder, cls.kind)

        def begin(head: Self) -> Floats:
            head.classes_ = np.asarray(card.classes, dtype=np.str_)
            head.n_features_in_ = card.dim
            head.sources_ = card.sources
            one_row = (1, card.dim) if cls.reads == "vectors" else (1, card.dim, 1, 1)
            return head.decision_function(np.ones(one_row))

        sizes = {"C": len(card.classes), "d": card.dim}
        return restored(cls, card, tensors, sizes, begin, folder / HEADS.card_name)

    def _check_width(self, X: ArrayLike) -> Floats:
        self._require_fit("classes_")
        features = check_features(X, "features")
        if features.shape[1] != self.n_features_in_:
            raise DataError(
                f"the head was learned from vectors of width {self.n_features_in_}, got width "
                f"{features.shape[1]}; are these another backbone's features?"
            )
        return features


class AffineHead(Head):
    """A head whose logits are an affine map of the features, as they are or made ready by `_ready`.

    Attributes:
        coef_, intercept_: float32 [C, d] and [C].
    """

    apply: ClassVar[str] = "logits = features @ weight.T + bias"
    tensors: ClassVar[Mapping[str, str]] = {"weight": "coef_", "bias": "intercept_"}
    shapes: ClassVar[Mapping[str, str]] = {"weight": "C d", "bias": "C"}

    coef_: NDArray[np.float32]
    intercept_: NDArray[np.float32]

    def decision_function(self, X: ArrayLike) -> Floats:
        """Logits [n, C] of features [n, d]; see `Head`."""
        features, weight = self._check_width(X), self.coef_.astype(np.float64).T
        logits = np.empty((len(features), weight.shape[1]))
        for some, rows in self._ready(features, "features"):
            logits[some] = rows @ weight + self.intercept_
        return logits

    def _ready(self, features: Floats, what: str) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """What the map is of, some rows at a time; `what` names the features in messages."""
        for some in blocks(*features.shape):
            yield some, features[some].astype(np.float64)


def softmax(logits: Floats) -> Floats:
    """Rows of [n, C] to probabilities, without overflow."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs: Floats = powers / powers.sum(axis=1, keepdims=True)
    return probs


def from_to(counts: NDArray[np.integer]) -> str:
    """The least and the largest of some counts in words, or the one that all are."""
    fewest, most = int(counts.min()), int(counts.max())
    return f"{fewest}" if fewest == most else f"{fewest} to {most}"


def check_features(X: ArrayLike, what: str) -> Floats:
    """An array [n, d] of finite floats; `what` names it in messages.

    Raises:
        DataError: not two-dimensional, no columns, or values that are NaN or infinite.
    """
    features = np.asarray(X)
    if features.ndim != 2 or features.shape[1] == 0:
        raise DataError(f"{what} must be an array [n, d], got shape {features.shape}")
    if features.dtype.kind not in "fiu":
        raise DataError(f"{what} must be numbers, got dtype {features.dtype}")
    if features.dtype.kind != "f":
        features = features.astype(np.float64)
    finite = finite_rows(features)
    if not finite.all():
        rows = np.flatnonzero(~finite)
        raise DataError(
            f"{what}: {len(rows)} of {len(features)} rows hold NaN or infinite values (first rows: "
            f"{rows[:5].tolist()}); extract them again, in fp32 if they overflowed"
        )
    return features


def check_examples(X: ArrayLike, y: ArrayLike, what: str) -> tuple[Floats, Names]:
    """Features [n, d] with a class name each.

    Raises:
        DataError: as `check_features`, or no examples, or the lengths differ.
    """
    features, names = check_features(X, what), np.asarray(y).astype(np.str_)
    if len(features) == 0:
        raise DataError(f"{what}: there are no examples; check the split and the label column")
    if names.shape != (len(features),):
        raise DataError(f"{what}: {len(features)} rows of features for labels of shape {names.shape}")
    return features, names


def check_learnable(features: Floats, names: Names) -> None:
    """Refuse training examples that say nothing about any difference between classes.

    Raises:
        DataError: one class only, or features that are the same for every example.
    """
    classes = np.unique(names)
    if len(classes) < 2:
        raise DataError(
            f"all {len(names)} training examples have the class {str(classes[0])!r}; "
            "a probe needs at least two classes"
        )
    check_varied(features)


def check_varied(features: Floats) -> None:
    """Refuse features that are the same for each of several examples.

    Raises:
        DataError: they are.
    """
    if len(features) > 1 and (np.ptp(features, axis=0) == 0).all():
        raise DataError(
            f"all {len(features)} training examples have the same (constant) features; "
            "nothing can be learned from them. Does the view hold what it should?"
        )
