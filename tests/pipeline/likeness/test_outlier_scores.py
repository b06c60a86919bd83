"""Outliers: against scikit-learn's neighbours, its local outlier factor where that must agree, and loops."""

import numpy as np
import pytest
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors

from deponij.pipeline import unit_vectors
from deponij.pipeline.likeness.outliers import UNLABELLED, look_around, spread_of
from deponij.pipeline.likeness.pairs import codes_of
from deponij.pipeline.unit_vectors import unit
from deponij.store.errors import UsageError


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_vectors, "BLOCK_CELLS", 1)


def vectors(n: int, seed: int = 0, dim: int = 6) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(n, dim)))


@pytest.mark.parametrize("k", [1, 4, 10])
def test_the_score_is_the_kth_distance_of_scikit_learn(k: int) -> None:
    units = vectors(150)
    found = look_around(units, k)
    # Asked without queries, it leaves each item out of its own neighbours.
    distances, rows = NearestNeighbors(n_neighbors=k, metric="cosine").fit(units).kneighbors()
    np.testing.assert_allclose(found.others.distances, distances, atol=1e-6)
    np.testing.assert_array_equal(found.others.rows, rows)
    np.testing.assert_array_equal(found.scores, found.others.distances[:, -1])


def test_planted_outliers_come_first_here_as_with_the_local_outlier_factor() -> None:
    rng = np.random.default_rng(1)
    crowd = np.array([1, 0, 0, 0, 0, 0]) + 0.2 * rng.normal(size=(200, 6))
    odd = -np.eye(6)[:5]
    units = unit(np.concatenate([crowd, odd]))
    planted = set(range(200, 205))
    scores = look_around(units, 10).scores
    factor = LocalOutlierFactor(n_neighbors=10, metric="cosine").fit(units).negative_outlier_factor_
    assert set(np.argsort(-scores)[:5].tolist()) == set(np.argsort(factor)[:5].tolist()) == planted
    spread = spread_of(scores)
    assert (scores > spread.fence).sum() == spread.n_beyond and set(
        np.flatnonzero(scores > spread.fence)
    ) >= planted


@pytest.mark.parametrize("seed", range(3))
def test_copies_and_the_own_photograph_are_no_neighbours(seed: int) -> None:
    rng = np.random.default_rng(seed)
    units = vectors(80, seed)
    keys, photos = rng.integers(0, 60, 80).astype(np.int32), rng.integers(0, 15, 80).astype(np.int32)
    labels = rng.integers(-1, 4, 80).astype(np.int32)
    found = look_around(units, 3, [keys, photos], labels)
    for row in range(80):
        counts = (keys != keys[row]) & (photos != photos[row])
        distances = 1 - units.astype(np.float64) @ units[row].astype(np.float64)
        near = [int(other) for other in np.argsort(distances, kind="stable") if counts[other]]
        assert found.others.rows[row].tolist() == near[:3]
        assert found.n_same is not None and found.n_labelled is not None
        assert found.nearest_same is not None and found.nearest_different is not None
        if labels[row] == UNLABELLED:
            assert found.n_same[row] == found.n_labelled[row] == 0
            assert np.isinf([found.nearest_same[row], found.nearest_different[row]]).all()
            continue
        around = labels[near[:3]]
        assert found.n_same[row] == (around == labels[row]).sum()
        assert found.n_labelled[row] == (around != UNLABELLED).sum()
        same = distances[counts & (labels == labels[row])].min(initial=np.inf)
        different = distances[counts & (labels != labels[row]) & (labels != UNLABELLED)].min(initial=np.inf)
        assert found.nearest_same[row] == pytest.approx(same, abs=1e-6)
        assert found.nearest_different[row] == pytest.approx(different, abs=1e-6)


def test_labels_do_not_change_the_neighbours() -> None:
    units = vectors(70)
    labels = np.random.default_rng(0).integers(-1, 5, 70).astype(np.int32)
    np.testing.assert_array_equal(
        look_around(units, 5).others.rows, look_around(units, 5, (), labels).others.rows
    )


def test_an_item_among_another_class_is_misplaced() -> None:
    rng = np.random.default_rng(0)
    centres = np.repeat(np.eye(3, 6), 20, axis=0)
    units = unit(centres + 0.05 * rng.normal(size=(60, 6)))
    labels = np.repeat([0, 1, 2], 20).astype(np.int32)
    # One that is labelled as its neighbours are not; one of a class of its own; one without a label.
    labels[3], labels[25], labels[45] = 1, 7, UNLABELLED
    assert np.flatnonzero(look_around(units, 5, (), labels).is_misplaced).tolist() == [3]
    assert not look_around(units, 5).is_misplaced.any()


def test_too_few_others_are_told() -> None:
    units = vectors(6)
    photos = codes_of(["a", "a", "a", "a", "b", "c"])
    assert look_around(units, 2, [photos]).scores.shape == (6,)
    with pytest.raises(UsageError, match="only 2 others"):
        look_around(units, 3, [photos])
    with pytest.raises(UsageError, match="only 5 others"):
        look_around(units, 9)
    with pytest.raises(UsageError, match="at least 1"):
        look_around(units, 0)


def test_spread_of_a_hand_computed_sample() -> None:
    # Quartiles of 0..8 are 2 and 6: the fence is at 6 + 1.5 * 4 = 12, which 100 exceeds.
    found = spread_of(np.array([0, 1, 2, 3, 4, 5, 6, 7, 100], np.float32))
    assert found.fence == 12 and found.n_beyond == 1
    assert dict(found.quantiles)[0.5] == 4 and dict(found.quantiles)[1.0] == 100
