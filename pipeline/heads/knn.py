"""The weighted k-nearest-neighbour classifier, as dinov2's `eval/knn.py` evaluates features.

How neighbours are found lives in `unit_vectors`; few examples of each class are drawn by `few_shot`.

Shape letters: n examples, m stored training examples, d feature width, C classes, K the largest k.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import JsonValue

from deponij.pipeline.cards import COUNTS, Condition, Fact, are_positive, rows_of
from deponij.pipeline.heads.choosing import validation_pair, worth
from deponij.pipeline.heads.examples import Examples
from deponij.pipeline.heads.few_shot import few_shot
from deponij.pipeline.heads.head import Floats, Head, check_examples, check_varied
from deponij.pipeline.heads.registry import register
from deponij.pipeline.metrics.classification import rank
from deponij.pipeline.metrics.evaluation import PARTS, score_part
from deponij.pipeline.unit_vectors import directions, directions_in_blocks, nearest

DEFAULT_KS = (10, 20, 100, 200)
# "20 usually best", says dinov2's paper of these features.
USUAL_K = 20
# Below any share that a neighbour can have, so that it changes no ranking and no probability by 1e-6.
FLOOR = 1e-9


@dataclass(frozen=True, slots=True)
class Trial:
    """One number of neighbours and how it does on validation."""

    k: int
    top1: float
    log_loss: float


@register("knn")
@dataclass(eq=False)
class NearestNeighbours(Head):
    """Votes of the k nearest training examples by cosine, each weighted by exp(cosine / temperature).

    Weights are the softmax over the K nearest neighbours; a class's score is the sum of its
    neighbours' weights among the first k, as a share of all of these. The highest top-1 on validation
    chooses k, ties go to the lower log-loss and then to the smaller k; without a validation pair it is
    the one next to 20. Every k is clamped to the number of training examples.

    Training examples are their own nearest neighbours, so that answers to them say nothing.

    Args:
        ks: numbers of neighbours to choose from.
        temperature: of the weights.

    Attributes:
        vectors_: training features of unit length, float32 [m, d].
        codes_: their classes, [m].
        ks_: the clamped `ks`, ascending.
        k_: the chosen one.
        trials_: what was tried on validation.
    """

    title: ClassVar[str] = "k-NN"
    choices: ClassVar[Mapping[str, str]] = {"ks": "k_"}
    remembers: ClassVar[str] = "Training items are their own nearest neighbours"
    apply: ClassVar[str] = (
        "import numpy as np\n"
        "cosines = np.round((features / norm(features)) @ vectors.astype(np.float64).T, 13)\n"
        "nearest = np.argsort(-cosines, axis=1, kind='stable')[:, : int(k[0])]\n"
        "weights = np.exp((np.take_along_axis(cosines, nearest, axis=1) - 1) / temperature)\n"
        "votes = np.eye(int(codes.max()) + 1)[codes.astype(int)][nearest]\n"
        "scores = (weights[:, :, None] * votes).sum(axis=1) / weights.sum(axis=1, keepdims=True)\n"
        f"logits = np.log(scores + {FLOOR})"
    )

    tensors: ClassVar[Mapping[str, str]] = {"vectors": "vectors_", "codes": "codes_", "k": "k_"}
    shapes: ClassVar[Mapping[str, str]] = {"vectors": "n d", "codes": "n", "k": "1"}
    facts: ClassVar[Mapping[str, Fact]] = {"ks": COUNTS, "trials": rows_of(Trial)}

    ks: Sequence[int] = DEFAULT_KS
    temperature: float = 0.07

    def fit(
        self, X: ArrayLike, y: ArrayLike, X_val: ArrayLike | None = None, y_val: ArrayLike | None = None
    ) -> Self:
        """Keep features [m, d] with their class names [m]; choose k on validation.

        Raises:
            DataError: no examples, NaN or infinite values, vectors of length 0, widths that differ, or
                no validation example of a trained class.
            UsageError: a parameter out of its range.
        """
        self.check_params()
        features, names = check_examples(X, y, "training features")
        check_varied(features)
        self.classes_, codes = np.unique(names, return_inverse=True)
        self.n_features_in_ = features.shape[1]
        self.codes_ = codes.astype(np.int64)
        # Rounded as they are saved, so that a loaded head gives the same answers.
        self.vectors_ = directions(features, "training features", np.float32)
        self.ks_ = tuple(sorted({min(int(k), len(names)) for k in self.ks}))
        self.k_ = min(self.ks_, key=lambda k: (abs(k - USUAL_K), k))
        self.trials_: tuple[Trial, ...] = ()
        validation = validation_pair(X_val, y_val, self.classes_, self.n_features_in_)
        if validation is not None:
            logits = self.decisions(validation[0])
            self.trials_ = tuple(Trial(k, *worth(logits[k], self.classes_, validation[1])) for k in self.ks_)
            self.k_ = min(self.trials_, key=lambda trial: (-trial.top1, trial.log_loss, trial.k)).k
        return self

    def decision_function(self, X: ArrayLike) -> Floats:
        """Logits [n, C] by the chosen k: the logarithm of each class's share of the votes; see `Head`."""
        features = self._check_width(X)
        return self._votes(features, (self.k_,))[self.k_]

    def decisions(self, X: ArrayLike) -> dict[int, Floats]:
        """Logits [n, C] by every k of `ks_`, of one search for neighbours."""
        features = self._check_width(X)
        return self._votes(features, self.ks_)

    def study(
        self, X: Floats, examples: Examples, per_class: Sequence[int] = (), tries: int = 1
    ) -> dict[str, JsonValue]:
        """On test with a few examples of each class, and without folds scores of each part by every k."""
        shots: dict[str, JsonValue] = {"few_shot": few_shot(self, X, examples, per_class, tries)}
        if examples.folds is not None:
            return shots
        scores: list[JsonValue] = [
            {"k": k, "parts": self._scores(logits, examples)} for k, logits in self.decisions(X).items()
        ]
        return {"every_k": scores} | shots

    def _scores(self, logits: Floats, examples: Examples) -> dict[str, JsonValue]:
        ranked, classes = self.classes_[rank(logits, 3)], self.classes_.tolist()
        rows_of = {part: rows for part in PARTS if len(rows := examples.rows(part))}
        return {
            part: score_part(
                examples.labels[rows],
                ranked[rows],
                examples.groups[rows],
                classes,
                examples.majority_class,
                examples.unit,
            ).model_dump(mode="json")
            for part, rows in rows_of.items()
        }

    def _votes(self, features: Floats, ks: Sequence[int]) -> dict[int, Floats]:
        logits: dict[int, Floats] = {k: np.empty((len(features), len(self.classes_))) for k in ks}
        for some, units in directions_in_blocks(features, "features"):
            cosines, rows = nearest(units, self.vectors_, max(ks))
            weights = np.exp((cosines - cosines[:, :1]) / self.temperature)  # [b, K]
            codes = self.codes_[rows]  # [b, K]
            for k in ks:
                logits[k][some] = np.log(self._shares(weights[:, :k], codes[:, :k]) + FLOOR)
        return logits

    def _shares(self, weights: NDArray[np.float64], codes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Each class's share [n, C] of the weights [n, k] of neighbours of these classes [n, k]."""
        n, n_classes = len(weights), len(self.classes_)
        places = (np.arange(n)[:, None] * n_classes + codes).ravel()
        sums = np.bincount(places, weights.ravel(), minlength=n * n_classes).reshape(n, n_classes)
        shares: NDArray[np.float64] = sums / weights.sum(axis=1, keepdims=True)
        return shares

    @property
    def protocol(self) -> str:
        """In words: what is compared with what, and how k was chosen."""
        how = (
            f"{len(self.trials_)} by top-1 on validation"
            if self.trials_
            else "its usual value; no validation"
        )
        choice = f"k = {self.k_} of {how}" if self.trials_ else f"k = {self.k_}, {how}"
        return f"votes of the nearest of {len(self.codes_)} training items by cosine, T = {self.temperature:g}; {choice}"

    def _conditions(self) -> Sequence[Condition]:
        return (
            (
                are_positive(self.ks) and all(k == int(k) for k in self.ks),
                f"ks must be whole numbers from 1, got {list(self.ks)}",
            ),
            (are_positive(self.temperature), f"temperature must be positive, got {self.temperature}"),
        )

    def _restore(self, tensors: Mapping[str, NDArray[np.float32]], learned: Mapping[str, Any]) -> None:
        super()._restore(tensors, learned)
        self.codes_, self.k_ = tensors["codes"].astype(np.int64), int(tensors["k"][0])
