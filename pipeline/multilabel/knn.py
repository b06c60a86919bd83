"""k nearest neighbours for several labels: each class by its share among the neighbours of an item.

Shape letters: n examples, m stored training examples, d feature width, C classes, K the largest k.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deponij.pipeline.cards import COUNTS, Condition, Fact, are_positive, rows_of
from deponij.pipeline.heads.head import Floats
from deponij.pipeline.metrics.multilabel import average_precision
from deponij.pipeline.multilabel.head import Bools, MultilabelHead
from deponij.pipeline.multilabel.registry import register
from deponij.pipeline.record_lists import rounded
from deponij.pipeline.unit_vectors import directions, directions_in_blocks, nearest

DEFAULT_KS = (5, 10, 20, 50)
USUAL_K = 10


@dataclass(frozen=True, slots=True)
class Trial:
    """One number of neighbours, and mAP on validation."""

    k: int
    map_macro: float


@register("knn")
@dataclass(eq=False)
class MultilabelNeighbours(MultilabelHead):
    """The weighted share of each class among the k nearest training examples by cosine, weights exp(cosine / temperature).

    The share is drawn half a neighbour towards how often the class occurs in training, so that it is never 0 or 1; its
    log-odds are the answer. k is chosen by mAP on validation, ties go to the smaller one; without validation it is the one
    next to 10.

    Args:
        ks: numbers of neighbours to choose from; clamped to the number of training examples.
        temperature: of the weights.

    Attributes:
        vectors_: training features of unit length, float32 [m, d].
        truth_: [m, C] 0 or 1.
        k_: chosen.
        trials_: tried.
    """

    title: ClassVar[str] = "k-NN, each class by itself"
    apply: ClassVar[str] = (
        "import numpy as np\n"
        "cosines = np.round((features / norm(features)) @ vectors.astype(np.float64).T, 13)\n"
        "nearest = np.argsort(-cosines, axis=1, kind='stable')[:, : int(k[0])]\n"
        "weights = np.exp((np.take_along_axis(cosines, nearest, axis=1) - 1) / temperature)\n"
        "shares = (weights[:, :, None] * truth[nearest]).sum(axis=1) / weights.sum(axis=1, keepdims=True)\n"
        "prior = (truth.sum(axis=0) + 0.5) / (len(truth) + 1)\n"
        "shares = (int(k[0]) * shares + 0.5 * prior) / (int(k[0]) + 0.5)\n"
        "log_odds = np.log(shares) - np.log1p(-shares)"
    )
    tensors: ClassVar[Mapping[str, str]] = {"vectors": "vectors_", "truth": "truth_", "k": "k_"}
    shapes: ClassVar[Mapping[str, str]] = {"vectors": "n d", "truth": "n C", "k": "1"}
    facts: ClassVar[Mapping[str, Fact]] = {"ks": COUNTS, "trials": rows_of(Trial)}

    ks: Sequence[int] = DEFAULT_KS
    temperature: float = 0.07

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Log-odds [n, C] by the chosen k; see `MultilabelHead`."""
        return self._votes(self._check_width(X), (self.k_,))[self.k_]

    @property
    def protocol(self) -> str:
        """In words: what is compared with what, and how k was chosen."""
        how = (
            f" of {len(self.trials_)} by mAP on validation"
            if self.trials_
            else ", its usual value; no validation"
        )
        return (
            f"shares of the nearest of {len(self.vectors_)} training items by cosine, T = {self.temperature:g}; "
            f"k = {self.k_}{how}"
        )

    def notes(self) -> tuple[str, ...]:
        """See `MultilabelHead`."""
        own = "Training items are their own nearest neighbours; figures of the training part say nothing."
        return (own, *super().notes())

    def _conditions(self) -> Sequence[Condition]:
        return (
            (
                are_positive(self.ks) and all(k == int(k) for k in self.ks),
                f"ks must be whole numbers from 1, got {list(self.ks)}",
            ),
            (are_positive(self.temperature), f"temperature must be positive, got {self.temperature}"),
        )

    def _learn(self, features: Floats, truth: Bools, validation: tuple[Floats, Bools] | None) -> None:
        # Rounded as they are saved, so that a loaded head gives the same answers.
        self.vectors_ = directions(features, "training features", np.float32)
        self.truth_ = truth.astype(np.float32)
        self.ks_ = tuple(sorted({min(int(k), len(truth)) for k in self.ks}))
        self.k_ = min(self.ks_, key=lambda k: (abs(k - USUAL_K), k))
        self.trials_: tuple[Trial, ...] = ()
        if validation is not None and validation[1].any():
            val_truth = validation[1]
            for k, log_odds in self._votes(validation[0], self.ks_).items():
                precisions = [
                    average_precision(val_truth[:, c], log_odds[:, c])[0] for c in range(val_truth.shape[1])
                ]
                self.trials_ = (*self.trials_, Trial(k, rounded(float(np.nanmean(precisions)))))
            self.k_ = min(self.trials_, key=lambda one: (-one.map_macro, one.k)).k

    def _votes(self, features: Floats, ks: Sequence[int]) -> dict[int, NDArray[np.float64]]:
        prior = (self.truth_.sum(axis=0, dtype=np.float64) + 0.5) / (len(self.truth_) + 1)
        log_odds = {k: np.empty((len(features), len(prior))) for k in ks}
        for some, units in directions_in_blocks(features, "features"):
            cosines, rows = nearest(units, self.vectors_, max(ks))
            weights = np.exp((cosines - cosines[:, :1]) / self.temperature)  # [b, K]
            for k in ks:
                own = weights[:, :k] / weights[:, :k].sum(axis=1, keepdims=True)
                shares = np.einsum("nk,nkc->nc", own, self.truth_[rows[:, :k]].astype(np.float64))
                shares = (k * np.clip(shares, 0, 1) + 0.5 * prior) / (k + 0.5)
                log_odds[k][some] = np.log(shares) - np.log1p(-shares)
        return log_odds

    def _restore(self, tensors: Mapping[str, NDArray[np.float32]], learned: Mapping[str, Any]) -> None:
        super()._restore(tensors, learned)
        self.k_ = int(tensors["k"][0])
