"""The nearest class mean against scikit-learn."""

import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from deponij.pipeline.heads.centroid import NearestClassMean
from deponij.store.errors import DataError, UsageError


def clusters(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = rng.choice(4, size=n, p=[0.5, 0.3, 0.15, 0.05])
    rows = np.eye(4, 12)[codes] + rng.normal(size=(n, 12)) / 3
    return rows * rng.uniform(0.5, 3, size=(n, 1)), np.array(list("abcd"))[codes]


@pytest.mark.parametrize(
    ("normalise", "peer"),
    [(True, make_pipeline(Normalizer(), NearestCentroid())), (False, NearestCentroid())],
)
def test_equals_scikit_learn(normalise: bool, peer: NearestCentroid) -> None:
    X, y = clusters(200, seed=0)
    new, _ = clusters(300, seed=1)
    head = NearestClassMean(normalise).fit(X, y)
    assert (head.predict(new) == peer.fit(X, y).predict(new)).all()
    assert len(set(head.predict(new))) == 4
    centroids = (peer[-1] if normalise else peer).centroids_
    np.testing.assert_allclose(head.coef_ / head.gain_, centroids, atol=1e-6)


def test_logits_are_minus_half_squared_distances() -> None:
    # Means (1, 0) and (0, 2); mean squared length (1 + 1 + 4) / 3 = 2; the gain is 6 / 2.
    head = NearestClassMean(normalise=False, scale=6).fit([[1, 0], [1, 0], [0, 2]], ["a", "a", "b"])
    logits = head.decision_function([[1.0, 1.0]])
    # Squared distances are 1 and 2; what both classes share is left out.
    assert logits[0, 0] - logits[0, 1] == pytest.approx(3 * (2 - 1) / 2)


def test_bad_input() -> None:
    with pytest.raises(DataError, match="all training features are 0"):
        NearestClassMean(normalise=False).fit(np.zeros((1, 3)), ["a"])
    with pytest.raises(UsageError, match="scale must be positive"):
        NearestClassMean(scale=0).fit([[1.0]], ["a"])


def test_one_example_each_is_the_nearest_example() -> None:
    X, new = np.random.default_rng(2).normal(size=(2, 30, 5))
    names = np.array([f"{i:02}" for i in range(30)])
    units, new_units = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (X, new))
    assert (
        NearestClassMean().fit(X, names).predict(new) == names[(new_units @ units.T).argmax(axis=1)]
    ).all()
