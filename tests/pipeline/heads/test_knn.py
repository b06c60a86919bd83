"""The k-NN head against scikit-learn, and against votes counted by hand."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from deponij.pipeline import unit_vectors
from deponij.pipeline.cards import FeatureSource
from deponij.pipeline.heads.few_shot import draw
from deponij.pipeline.heads.knn import NearestNeighbours
from deponij.pipeline.heads.registry import load_head
from deponij.pipeline.unit_vectors import nearest
from deponij.store.errors import DataError, UsageError

SOURCES = (FeatureSource(backbone="tiny", fingerprint="f" * 20, labels="label"),)


def clusters(n: int, seed: int, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Four classes of uneven size around directions in twelve dimensions."""
    rng = np.random.default_rng(seed)
    codes = rng.choice(4, size=n, p=[0.5, 0.3, 0.15, 0.05])
    rows = np.eye(4, 12)[codes] + spread * rng.normal(size=(n, 12)) / np.sqrt(12)
    return rows * rng.uniform(0.5, 3, size=(n, 1)), np.array(list("abcd"))[codes]


@pytest.mark.parametrize("k", [1, 10, 20, 100])
def test_equals_scikit_learn(k: int) -> None:
    X, y = clusters(300, seed=0)
    new, _ = clusters(80, seed=1)

    def weights(distances: np.ndarray) -> np.ndarray:
        # scikit-learn's cosine distance is 1 - cosine.
        return np.exp((1 - distances) / 0.07)

    peer = KNeighborsClassifier(k, weights=weights, metric="cosine", algorithm="brute").fit(X, y)
    head = NearestNeighbours(ks=(k,)).fit(X, y)
    np.testing.assert_allclose(head.predict_proba(new), peer.predict_proba(new), atol=1e-6)
    assert (head.predict(new) == peer.predict(new)).all()


def test_votes_counted_by_hand() -> None:
    # Cosines to (1, 0) are 1, 0.8, 0.6 and 0; lengths must not matter.
    X = [[2, 0], [0.8, 0.6], [3, 4], [0, 1]]
    head = NearestNeighbours(ks=(1, 3, 4), temperature=0.2).fit(X, ["a", "b", "b", "a"])
    e1, e2, e5 = np.exp(-1), np.exp(-2), np.exp(-5)
    shares = {1: 0, 3: (e1 + e2) / (1 + e1 + e2), 4: (e1 + e2) / (1 + e1 + e2 + e5)}
    for k, logits in head.decisions([[7.0, 0.0]]).items():
        np.testing.assert_allclose(np.exp(logits), [[1 - shares[k], shares[k]]], atol=1e-7)


def test_ranking_is_that_of_dinov2s_softmax_over_the_largest_k() -> None:
    # dinov2's eval/knn.py: one softmax over max(k) neighbours, sums over the first k of them.
    X, y = clusters(200, seed=2)
    new, _ = clusters(50, seed=3)
    units = X / np.linalg.norm(X, axis=1, keepdims=True)
    cosines = (new / np.linalg.norm(new, axis=1, keepdims=True)) @ units.T
    order = np.argsort(-cosines, axis=1)[:, :100]
    powers = np.exp(np.take_along_axis(cosines, order, axis=1) / 0.07)
    weights = powers / powers.sum(axis=1, keepdims=True)
    votes = (y[order][:, :, None] == np.unique(y)) * weights[:, :, None]
    for k, logits in NearestNeighbours().fit(X, y).decisions(new).items():
        if k <= 100:
            scores = votes[:, :k].sum(axis=1)
            assert (
                np.argsort(-logits, axis=1, kind="stable") == np.argsort(-scores, axis=1, kind="stable")
            ).all()


def test_k_is_clamped_and_chosen_on_validation() -> None:
    X, y = clusters(60, seed=4)
    val, truth = clusters(40, seed=5)
    head = NearestNeighbours(ks=(1, 20, 100, 200)).fit(X, y, val, truth)
    assert head.ks_ == (1, 20, 60)
    top1 = {k: (head.classes_[v.argmax(axis=1)] == truth).mean() for k, v in head.decisions(val).items()}
    assert {trial.k: trial.top1 for trial in head.trials_} == top1
    assert top1[head.k_] == max(top1.values())
    assert NearestNeighbours().fit(X, y).k_ == 20
    assert NearestNeighbours().fit(X[:5], y[:5]).ks_ == (5,)


def test_one_example_and_one_class_are_enough() -> None:
    head = NearestNeighbours().fit([[1.0, 0.0]], ["only"])
    assert head.predict([[-1.0, 2.0]]).tolist() == ["only"]


def test_saved_answers_are_the_same_for_every_k(tmp_path: Path) -> None:
    X, y = clusters(90, seed=6)
    head = NearestNeighbours(ks=(3, 7)).fit(X, y, *clusters(20, seed=7))
    head.save(tmp_path, SOURCES)
    again = load_head(tmp_path)
    assert isinstance(again, NearestNeighbours)
    for k, logits in head.decisions(X).items():
        np.testing.assert_array_equal(again.decisions(X)[k], logits)
    assert again.k_ == head.k_


def test_equal_vectors_are_ranked_by_row_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(8)
    stored = np.repeat(rng.normal(size=(20, 6)), 5, axis=0)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    queries = stored[::3]
    whole = nearest(queries, stored, 7)
    # Each query is five stored rows; the first neighbours are these in order.
    np.testing.assert_array_equal(whole[1][:, :5], np.arange(0, 100, 3)[:, None] // 5 * 5 + np.arange(5))
    monkeypatch.setattr(unit_vectors, "BLOCK_CELLS", 3 * len(stored))
    for one, other in zip(nearest(queries, stored, 7), whole, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("params", [{"ks": ()}, {"ks": (0,)}, {"ks": (2.5,)}, {"temperature": 0.0}])
def test_parameters_out_of_range_are_refused(params: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="k-NN"):
        NearestNeighbours(**params).fit([[1.0, 0.0]], ["a"])  # type: ignore[arg-type]


def test_vectors_without_direction_are_refused() -> None:
    with pytest.raises(
        DataError, match=r"training features: 1 of 2 rows have length 0 \(first rows: \[1\]\)"
    ):
        NearestNeighbours().fit([[1.0, 0.0], [0.0, 0.0]], ["a", "b"])


def test_validation_without_any_trained_class_is_refused() -> None:
    with pytest.raises(DataError, match="none of the 1 validation examples has a class that training has"):
        NearestNeighbours().fit([[1.0, 0.0]], ["a"], [[1.0, 0.0]], ["z"])


def test_draws_of_a_few_examples() -> None:
    names = np.array(list("aaaabbc"))
    rows = draw(names, 2, seed=0)
    assert sorted(names[rows].tolist()) == ["a", "a", "b", "b", "c"]
    assert (np.diff(rows) > 0).all()
    assert draw(names, 2, seed=0).tolist() == rows.tolist()
    assert set(rows) <= set(draw(names, 3, seed=0))
    assert len({tuple(draw(names, 1, seed=seed)) for seed in range(20)}) > 3
    with pytest.raises(ValueError, match="at least one"):
        draw(names, 0, seed=0)
