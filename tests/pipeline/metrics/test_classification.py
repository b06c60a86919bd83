"""Every metric against scikit-learn or values computed by hand."""

import numpy as np
import pytest
from sklearn.metrics import (
    balanced_accuracy_score,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix

from deponij.pipeline.metrics.classification import balanced_accuracy, confusion_matrix, hits, per_class, rank
from deponij.store.errors import DataError

CLASSES = np.array(["a", "b", "c", "d", "e"])


@pytest.fixture
def answers() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.choice(CLASSES, size=200, p=[0.5, 0.3, 0.1, 0.06, 0.04])
    scores = rng.normal(size=(200, 5)) + 1.5 * (truth[:, None] == CLASSES)
    return truth, scores


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_top_k_equals_scikit_learn(answers: tuple[np.ndarray, np.ndarray], k: int) -> None:
    truth, scores = answers
    ours = hits(truth, CLASSES[rank(scores, k)]).mean()
    assert ours == pytest.approx(top_k_accuracy_score(truth, scores, k=k, labels=CLASSES) if k < 5 else 1.0)


def test_ranks_are_clamped_to_the_classes() -> None:
    assert rank(np.array([[0.1, 0.9]]), 3).tolist() == [[1, 0]]


def test_ties_go_to_the_lower_column() -> None:
    scores = np.array([[1.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    assert rank(scores, 4).tolist() == [[1, 2, 3, 0], [0, 1, 2, 3]]
    assert rank(np.tile([0.0, 1.0], (1, 30)), 60).tolist() == [[*range(1, 60, 2), *range(0, 60, 2)]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(DataError, match=r"1 of 2 items.*row 1"):
        rank(np.array([[0.0, 1.0], [bad, 1.0]]), 1)


def test_balanced_accuracy_equals_scikit_learn(answers: tuple[np.ndarray, np.ndarray]) -> None:
    truth, scores = answers
    predicted = CLASSES[scores.argmax(axis=1)]
    assert balanced_accuracy(truth, predicted) == pytest.approx(balanced_accuracy_score(truth, predicted))


def test_a_class_that_was_never_learned_counts_as_wrong() -> None:
    # By hand: a 2 of 2, b 0 of 1, the unknown z 0 of 1 -> accuracy 2/4, balanced (1 + 0 + 0) / 3.
    truth, ranked = np.array(["a", "a", "b", "z"]), np.array([["a", "b"], ["a", "b"], ["a", "c"], ["a", "b"]])
    assert hits(truth, ranked).tolist() == [True, True, False, False]
    assert balanced_accuracy(truth, ranked[:, 0]) == pytest.approx(1 / 3)


def test_confusion_matrix_equals_scikit_learn(answers: tuple[np.ndarray, np.ndarray]) -> None:
    truth, scores = answers
    predicted = CLASSES[scores.argmax(axis=1)]
    theirs = sklearn_confusion_matrix(truth, predicted, labels=CLASSES)
    np.testing.assert_array_equal(confusion_matrix(truth, predicted, CLASSES.tolist()), theirs)


def test_per_class_equals_scikit_learn(answers: tuple[np.ndarray, np.ndarray]) -> None:
    truth, scores = answers
    predicted = CLASSES[scores.argmax(axis=1)]
    precision, recall, _, support = precision_recall_fscore_support(truth, predicted, labels=CLASSES)
    ours = per_class(truth, predicted, CLASSES.tolist())
    assert [row.precision for row in ours] == pytest.approx(precision.tolist())
    assert [row.recall for row in ours] == pytest.approx(recall.tolist())
    assert [row.n_support for row in ours] == support.tolist()


def test_undefined_shares_are_none() -> None:
    never_occurs, never_answered = per_class(np.array(["b", "b"]), np.array(["a", "a"]), ["a", "b"])
    assert (never_occurs.recall, never_occurs.precision) == (None, 0.0)
    assert (never_answered.recall, never_answered.precision) == (0.0, None)


def test_confusion_matrix_refuses_strangers() -> None:
    with pytest.raises(ValueError, match="'z'"):
        confusion_matrix(np.array(["z"]), np.array(["a"]), ["a", "b"])


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="1 truths for 2"):
        hits(np.array(["a"]), np.array([["a"], ["b"]]))
    with pytest.raises(ValueError, match="1 truths for 2"):
        confusion_matrix(np.array(["a"]), np.array(["a", "b"]), ["a", "b"])
    with pytest.raises(ValueError, match="no items"):
        balanced_accuracy(np.array([], dtype=str), np.array([], dtype=str))
