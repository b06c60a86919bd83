"""Rankings judged: against scikit-learn, torchmetrics, counts by hand and simulated chance."""

import tracemalloc
from itertools import permutations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torchmetrics.functional.retrieval import (
    retrieval_average_precision,
    retrieval_hit_rate,
    retrieval_precision,
    retrieval_r_precision,
)

from deponij.pipeline import unit_vectors
from deponij.pipeline.retrieval.evaluation import Side, expected_by_chance, judge_rankings, nearest
from deponij.store.errors import DataError, IdentityError

KS = (1, 5, 10)


def world(n: int = 150, n_classes: int = 6, n_photos: int = 50, seed: int = 0) -> Side:
    rng = np.random.default_rng(seed)
    codes = rng.integers(n_classes, size=n)
    vectors = np.eye(n_classes, 12)[codes] + 0.6 * rng.normal(size=(n, 12))
    return Side(vectors.astype(np.float32), codes, rng.integers(n_photos, size=n))


def queries_of(side: Side, rows: slice) -> Side:
    assert side.groups is not None
    return Side(side.vectors[rows], side.codes[rows], side.groups[rows])


def test_measures_are_those_of_scikit_learn_and_torchmetrics() -> None:
    """Expected: brute-force cosines, each query's own photograph left out, judged by the two libraries."""
    gallery = world()
    asked = queries_of(gallery, slice(0, 40))
    found = judge_rankings(asked, gallery, KS)
    units = gallery.vectors / np.linalg.norm(gallery.vectors, axis=1, keepdims=True)
    assert found.n_without == 0
    assert found.asked.tolist() == list(range(40))
    assert gallery.groups is not None
    for query in range(40):
        kept = gallery.groups != gallery.groups[query]
        scores = (units @ units[query])[kept]
        truth = gallery.codes[kept] == gallery.codes[query]
        assert (found.n_relevant[query], found.n_gallery[query]) == (truth.sum(), kept.sum())
        # torchmetrics takes what has no positive score for not found; two more change no order.
        pair = torch.tensor(scores + 2), torch.tensor(truth)
        expected = {
            "mAP": average_precision_score(truth, scores),
            "R-precision": float(retrieval_r_precision(*pair)),
            **{f"recall@{k}": float(retrieval_hit_rate(*pair, top_k=k)) for k in KS},
            **{f"precision@{k}": float(retrieval_precision(*pair, top_k=k)) for k in KS},
        }
        assert expected["mAP"] == pytest.approx(float(retrieval_average_precision(*pair)), abs=1e-5)
        assert set(found.values) == set(expected)
        for name, value in expected.items():
            assert found.values[name][query] == pytest.approx(value, abs=1e-6), name


def test_counted_by_hand() -> None:
    """Along the circle the order is b, a, a, b, a: relevant at the ranks 2, 3 and 5."""
    angles = np.radians([0, 10, 20, 30, 40, 50])
    vectors = np.column_stack([np.cos(angles), np.sin(angles)])
    gallery = Side(vectors[1:], np.array(list("baaba")))
    found = judge_rankings(Side(3 * vectors[:1], np.array(["a"])), gallery, (1, 2, 9))
    assert {name: value.tolist() for name, value in found.values.items()} == {
        "mAP": [pytest.approx((1 / 2 + 2 / 3 + 3 / 5) / 3)],
        "recall@1": [0],
        "recall@2": [1],
        "recall@9": [1],
        "precision@1": [0],
        "precision@2": [0.5],
        # There are five items to be had.
        "precision@9": [3 / 5],
        "R-precision": [2 / 3],
    }


def test_of_equal_scores_the_irrelevant_come_first() -> None:
    """In whatever order they are stored: an embedding that sees no difference finds nothing by luck."""
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]):
        gallery = Side(np.ones((4, 3)), np.array([7, 7, 8, 8])[order])
        found = judge_rankings(Side(np.ones((1, 3)), np.array([7])), gallery, (1, 3))
        assert found.values["mAP"][0] == pytest.approx((1 / 3 + 2 / 4) / 2)
        assert (found.values["recall@1"][0], found.values["recall@3"][0]) == (0, 1)


@pytest.mark.parametrize(("n", "dim"), [(37, 512), (500, 64), (1389, 256)])
def test_equal_vectors_are_no_better_for_the_last_bits_of_their_products(n: int, dim: int) -> None:
    """A matrix product gives equal columns scores that differ by rounding. Expected: all R relevant ones come last."""
    rng = np.random.default_rng(dim)
    vectors = np.tile(rng.normal(size=dim), (n, 1))
    codes = rng.integers(5, size=n)
    found = judge_rankings(Side(vectors[:30], codes[:30]), Side(vectors, codes), KS)
    last = [
        np.mean(np.arange(1, r + 1) / np.arange(n - r + 1, n + 1)) for r in np.bincount(codes)[codes[:30]]
    ]
    np.testing.assert_allclose(found.values["mAP"], last, rtol=1e-12)
    assert found.values["recall@10"].max() == 0


def test_memory_does_not_grow_with_what_is_relevant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 300 queries with 4,000 relevant items each, the ranks alone would take 9.6 MB."""
    monkeypatch.setattr(unit_vectors, "BLOCK_CELLS", 40_000)
    vectors = np.random.default_rng(0).normal(size=(4000, 4))
    side = Side(vectors, np.zeros(4000, np.int64))
    tracemalloc.start()
    judge_rankings(Side(vectors[:300], side.codes[:300]), side, KS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4e6


def test_queries_with_nothing_to_find_are_counted_and_left_out() -> None:
    vectors = np.eye(4)
    codes, photos = np.array(["a", "a", "b", "a"]), np.array(["p", "p", "q", "r"])
    side = Side(vectors, codes, photos)
    found = judge_rankings(side, side, (1,))
    assert (found.asked.tolist(), found.n_without) == ([0, 1, 3], 1)
    # The two of photograph p find the one of r alone, which finds both.
    assert found.n_relevant.tolist() == [1, 1, 2]
    assert found.n_gallery.tolist() == [2, 2, 3]
    nothing = judge_rankings(Side(vectors[:1], np.array(["c"])), side, (1,))
    assert nothing.n_without == 1
    assert all(len(value) == 0 for value in (*nothing.values.values(), *nothing.chance.values()))


@pytest.mark.parametrize(("n", "relevant"), [(6, 1), (6, 2), (6, 4), (5, 5), (1, 1)])
def test_chance_is_the_mean_over_all_orders(n: int, relevant: int) -> None:
    """Expected: every order of n items, ranked and averaged."""
    ks = (1, 2, 10)
    scores = np.linspace(1, 0.1, n)
    vectors = np.column_stack([scores, np.sqrt(1 - scores**2)])
    total = {}
    orders = set(permutations([1] * relevant + [0] * (n - relevant)))
    for order in orders:
        found = judge_rankings(
            Side(np.array([[1.0, 0.0]]), np.array([1])), Side(vectors, np.array(order)), ks
        )
        for name, value in found.values.items():
            total[name] = total.get(name, 0) + value[0] / len(orders)
    chance = expected_by_chance(np.array([relevant]), np.array([n]), ks)
    assert set(chance) == set(total)
    for name, value in total.items():
        assert chance[name][0] == pytest.approx(value), name


def test_chance_of_more_than_there_is_costs_nothing() -> None:
    chance = expected_by_chance(np.array([2, 1]), np.array([5, 3]), (5, 10**15))
    assert chance[f"recall@{10**15}"].tolist() == chance["recall@5"].tolist() == [1, 1]


def test_random_vectors_reach_chance() -> None:
    rng = np.random.default_rng(8)
    side = Side(rng.normal(size=(600, 32)), rng.integers(10, size=600), np.arange(600))
    found = judge_rankings(side, side, KS)
    for name, value in found.values.items():
        assert value.mean() == pytest.approx(found.chance[name].mean(), rel=0.15), name


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    side, moved = world(seed=3), []
    whole = judge_rankings(side, side, KS, moved.append)
    monkeypatch.setattr(unit_vectors, "BLOCK_CELLS", 7 * len(side.vectors))
    blocks = judge_rankings(side, side, KS, moved.append)
    assert moved[0] == 150
    assert moved[1:] == [7] * 21 + [3]
    for name, value in whole.values.items():
        np.testing.assert_allclose(blocks.values[name], value, rtol=1e-12)


def test_nearest_are_those_of_a_full_sort() -> None:
    side = world(seed=4)
    units = side.vectors / np.linalg.norm(side.vectors, axis=1, keepdims=True)
    there = np.arange(150) % 3 > 0
    expected = sorted((-float(units[row] @ units[5]), row) for row in np.flatnonzero(there).tolist())[:4]
    found = nearest(side.vectors[5], side.vectors, 4, there)
    assert [row for row, _ in found] == [row for _, row in expected]
    np.testing.assert_allclose([score for _, score in found], [-score for score, _ in expected], atol=1e-6)


def test_refusals() -> None:
    side = world(n=5)
    with pytest.raises(DataError, match="gallery is empty"):
        judge_rankings(side, Side(np.empty((0, 12)), np.empty(0)))
    with pytest.raises(IdentityError, match="width 12 and the gallery 3"):
        judge_rankings(side, Side(np.ones((2, 3)), np.zeros(2)))
    with pytest.raises(DataError, match="NaN"):
        judge_rankings(Side(np.full((1, 12), np.nan), np.zeros(1)), side)
