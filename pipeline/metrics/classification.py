"""Accuracy, balanced accuracy, precision, recall and confusion of ranked class names.

Shape letters: n items, C classes that the classifier can answer, k ranks. Truths and answers are
class *names*, so that an item whose class the classifier never learned is simply answered wrongly:
it counts in n, in its class's support and in every accuracy. Intervals live in `intervals`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deponij.store.errors import DataError

Names = NDArray[np.str_]


def rank(scores: NDArray[np.floating], k: int) -> NDArray[np.int64]:
    """Indices of the k largest of each row's scores, best first; k is clamped to C.

    Equal scores are ranked by column, lower first, so that the answer never depends on the machine.

    Args:
        scores: [n, C], logits or probabilities.

    Returns:
        [n, min(k, C)].

    Raises:
        DataError: a score is NaN or infinite.
    """
    if not np.isfinite(scores).all():
        rows = np.flatnonzero(~np.isfinite(scores).all(axis=1))
        raise DataError(
            f"{len(rows)} of {len(scores)} items have scores that are not finite; the first is row {rows[0]}"
        )
    return np.argsort(-scores, axis=1, kind="stable")[:, : max(1, k)]


def widened(
    logits: NDArray[np.floating], classes: Sequence[str], wider: Sequence[str]
) -> NDArray[np.float64]:
    """Logits [n, C] as logits over more classes, [n, len(wider)].

    A class that is new gets the lowest logit of the item: it never is the answer, and does not veto that of others.

    Args:
        classes: of the columns.
        wider: holds all of them.
    """
    column = {name: place for place, name in enumerate(wider)}
    wide = np.repeat(logits.min(axis=1, keepdims=True).astype(np.float64), len(wider), axis=1)
    wide[:, [column[name] for name in classes]] = logits
    return wide


def hits(truth: Names, ranked: Names) -> NDArray[np.bool_]:
    """Whether each truth [n] is among its ranked answers [n, k]; with k > C pass all C of them.

    Raises:
        ValueError: the numbers of rows differ.
    """
    if len(truth) != len(ranked):
        raise ValueError(f"{len(truth)} truths for {len(ranked)} rows of answers")
    is_hit: NDArray[np.bool_] = (ranked == truth[:, None]).any(axis=1)
    return is_hit


def balanced_accuracy(truth: Names, predicted: Names) -> float:
    """Mean recall over the classes that occur in `truth` (scikit-learn's `balanced_accuracy_score`).

    Raises:
        ValueError: there are no items.
    """
    if len(truth) == 0:
        raise ValueError("balanced accuracy of no items is undefined")
    _, codes = np.unique(truth, return_inverse=True)
    correct = np.bincount(codes, weights=truth == predicted)
    return float(np.mean(correct / np.bincount(codes)))


@dataclass(frozen=True, slots=True)
class ClassScores:
    """One class's counts. Precision is None when it was never answered, recall when it never occurs."""

    name: str
    n_support: int
    n_predicted: int
    n_correct: int

    @property
    def precision(self) -> float | None:
        """Share of the answers with this class that are right."""
        return self.n_correct / self.n_predicted if self.n_predicted else None

    @property
    def recall(self) -> float | None:
        """Share of this class's items that are answered rightly."""
        return self.n_correct / self.n_support if self.n_support else None


def per_class(truth: Names, predicted: Names, classes: Sequence[str]) -> list[ClassScores]:
    """Counts of each class, in the order of `classes`."""
    matrix = confusion_matrix(truth, predicted, classes)
    support, answered, correct = matrix.sum(axis=1), matrix.sum(axis=0), np.diag(matrix)
    counts = zip(support.tolist(), answered.tolist(), correct.tolist(), strict=True)
    return [ClassScores(name, *three) for name, three in zip(classes, counts, strict=True)]


def confusion_matrix(truth: Names, predicted: Names, classes: Sequence[str]) -> NDArray[np.int64]:
    """Counts [C, C] with truths in rows and answers in columns, in the order of `classes`.

    Raises:
        ValueError: a truth or an answer is not among `classes`, or the lengths differ.
    """
    if len(truth) != len(predicted):
        raise ValueError(f"{len(truth)} truths for {len(predicted)} answers")
    index = {name: i for i, name in enumerate(classes)}
    strangers = sorted({str(name) for name in np.concatenate([truth, predicted])} - set(index))
    if strangers:
        raise ValueError(f"these are not among the {len(classes)} classes: {strangers[:10]}")
    matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
    rows, columns = ([index[str(name)] for name in names] for names in (truth, predicted))
    np.add.at(matrix, (rows, columns), 1)
    return matrix
