"""The fast logistic regression against scikit-learn's own, fitted to convergence on all columns."""

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from deponij.pipeline.heads.softmax_regression import CS, fit_path, standardised
from deponij.store.errors import DataError


def examples(n: int, dim: int, n_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % n_classes
    features = 1.5 * rng.normal(size=(n_classes, dim))[codes] + rng.normal(size=(n, dim))
    return features * rng.uniform(0.1, 20, size=dim), np.array([f"class {code}" for code in codes])


# Wider than there are examples (solved in their span), narrower, and two classes (one row in scikit-learn).
@pytest.mark.parametrize(("n", "dim", "n_classes"), [(12, 40, 4), (90, 7, 3), (30, 64, 2), (60, 5, 2)])
def test_probabilities_equal_scikit_learns(n: int, dim: int, n_classes: int) -> None:
    features, names = examples(n + 20, dim, n_classes)
    train, asked = np.arange(n), np.arange(n, n + 20)
    scaler = StandardScaler().fit(features[train])
    standard = standardised(features, train)
    np.testing.assert_allclose(standard, scaler.transform(features), atol=1e-4)
    fitted = list(fit_path(standard[train], names[train]))
    assert [one.c for one in fitted] == sorted(CS)
    for one in fitted[:3]:
        exact = LogisticRegression(C=one.c / dim, tol=1e-9, max_iter=10_000)
        exact.fit(scaler.transform(features[train]), names[train])
        expected = exact.predict_proba(scaler.transform(features[asked]))
        # Fast means a loose tolerance: the third digit may differ, the answers do not.
        np.testing.assert_allclose(one.probs(standard[asked]), expected, atol=0.01)
        assert one.answers(standard[asked]).tolist() == exact.classes_[expected.argmax(axis=1)].tolist()


def test_one_example_of_each_class_is_enough_and_says_nothing() -> None:
    features, names = examples(4, 30, 4)
    standard = standardised(features, np.arange(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = next(fit_path(standard, names, [1.0]))
    assert fitted.answers(standard).tolist() == names.tolist()


def test_one_class_is_answered_always() -> None:
    fitted = next(fit_path(np.ones((3, 2), np.float32), np.array(["only"] * 3)))
    assert fitted.answers(np.zeros((5, 2))).tolist() == ["only"] * 5
    assert fitted.probs(np.zeros((5, 2))).tolist() == [[1.0]] * 5


def test_a_column_that_is_constant_where_one_learns_tells_nothing() -> None:
    features = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 1000.0]])
    standard = standardised(features, np.array([0, 1]))
    assert standard[:, 1].tolist() == [0, 0, 0]
    # Mean 1.5 and standard deviation 0.5 of the two known rows.
    assert standard[:, 0].tolist() == [-1, 1, 3]


def test_constant_features_are_refused() -> None:
    with pytest.raises(DataError, match=r"all 4 examples have the same \(constant\) features"):
        standardised(np.ones((6, 3)), np.arange(4))
