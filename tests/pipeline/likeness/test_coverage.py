"""A batch against an archive: by hand, by loops, and by the formulas of Naeem et al. (2020)."""

from math import comb

import numpy as np
import pytest
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors

from deponij.pipeline import unit_vectors
from deponij.pipeline.likeness import pairs as likeness
from deponij.pipeline.likeness.coverage import Batch, expected_coverage, farthest_first, judge_batch
from deponij.pipeline.likeness.outliers import look_around
from deponij.pipeline.likeness.pairs import Evidence, Likeness, Thresholds
from deponij.pipeline.unit_vectors import unit
from deponij.store.errors import UsageError


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_vectors, "BLOCK_CELLS", 1)


def at_angles(*degrees: float) -> np.ndarray:
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def distance(degrees: float) -> float:
    return 1 - float(np.cos(np.radians(degrees)))


def judged(archive: np.ndarray, new: np.ndarray, k: int, quantile: float = 0.95) -> Batch:
    of_new = Evidence([f"n{i}" for i in range(len(new))], None, new)
    of_archive = Evidence([f"a{i}" for i in range(len(archive))], None, archive)
    radii = look_around(unit(archive), k).scores
    return judge_batch(
        Likeness(of_new, of_archive, Thresholds(4, 1.0)), k, radii, float(np.quantile(radii, quantile))
    )


def test_each_kind_by_hand() -> None:
    archive = Evidence(["a0", "a1", "a2", "a3"], ["0" * 16, "f" * 16, None, None], at_angles(0, 10, 20, 30))
    new = Evidence(
        ["a1", "n1", "n2", "n3", "n4"],
        ["f" * 16, "1" + "0" * 15, None, None, None],
        # A copy; one that looks like the first, which features confirm (cosine 0.71) though others are nearer; close;
        # within 10 degrees; beyond.
        at_angles(10, 45, 21, 35, 50),
    )
    radii = look_around(at_angles(0, 10, 20, 30), 1).scores
    assert radii == pytest.approx([distance(10)] * 4, abs=1e-6)
    found = judge_batch(Likeness(new, archive, Thresholds(4, np.cos(np.radians(2)))), 1, radii, distance(10))
    assert found.novelty.tolist() == ["exact", "near", "near", "familiar", "novel"]
    assert found.nearest.tolist() == [1, 0, 2, 3, 3]
    assert found.bits.tolist() == [0, 1, 255, 255, 255]
    assert found.distances == pytest.approx([distance(angle) for angle in (0, 45, 1, 5, 20)], abs=1e-6)
    assert found.gaps == pytest.approx([distance(angle) for angle in (0, 15, 1, 5, 20)], abs=1e-6)
    assert [found.count(kind) for kind in ("exact", "near", "familiar", "novel")] == [1, 2, 1, 1]


@pytest.mark.parametrize(("k", "seed"), [(1, 0), (5, 1), (5, 2)])
def test_density_and_coverage_are_those_of_the_paper(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    archive, new = unit(rng.normal(size=(60, 4))), unit(rng.normal(size=(25, 4)) + 0.5)
    # Equations 2 and 3 of the paper, by Euclidean distance: on the sphere its balls are those of the cosine.
    radii = NearestNeighbors(n_neighbors=k).fit(archive).kneighbors()[0][:, -1]
    between = pairwise_distances(archive, new)
    density = (between < radii[:, None]).sum(axis=0).mean() / k
    coverage = (between.min(axis=1) < radii).mean()
    found = judged(archive, new, k)
    assert found.density == pytest.approx(density) and found.coverage == pytest.approx(coverage)
    assert found.scores == pytest.approx(np.sort(between, axis=0)[k - 1] ** 2 / 2, abs=1e-6)


def test_more_of_the_same_is_covered_and_called_novel_as_often_as_expected() -> None:
    rng = np.random.default_rng(0)
    vectors = unit(rng.normal(size=(1200, 8)))
    found = judged(vectors[:800], vectors[800:], 5)
    assert found.count("novel") / 400 == pytest.approx(0.05, abs=0.03)
    assert found.coverage == pytest.approx(found.expected_coverage, abs=0.05)
    assert found.density == pytest.approx(1, abs=0.1)


def test_expected_coverage_counts_the_ways() -> None:
    # All k nearest are of the archive: C(n - 1, k) of C(n + m - 1, k) equally likely choices.
    for n, m, k in ((10, 3, 2), (5, 40, 4), (3, 2, 3)):
        assert expected_coverage(n, m, k) == pytest.approx(1 - comb(n - 1, k) / comb(n + m - 1, k))


def test_farthest_first_by_hand() -> None:
    # The archive is at 0 degrees. First the farthest, then what is farthest from both.
    new = at_angles(80, 10, 90, 50, 88)
    picked = farthest_first(new, np.array([distance(angle) for angle in (80, 10, 90, 50, 88)], np.float32), 2)
    assert picked.rows.tolist() == [2, 3]
    assert picked.gaps == pytest.approx([distance(90), distance(40)], abs=1e-6)
    # The item at 10 and the one at 80 are as far from the rest: 10 degrees.
    assert picked.left == pytest.approx(distance(10), abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_farthest_first_is_the_greedy_rule(seed: int) -> None:
    rng = np.random.default_rng(seed)
    archive, new = unit(rng.normal(size=(20, 5))), unit(rng.normal(size=(40, 5)))
    gaps = (1 - new @ archive.T).min(axis=1)
    found = farthest_first(new, gaps, 10)
    there = [*archive.astype(np.float64)]
    for row, gap in zip(found.rows, found.gaps, strict=True):
        left = (1 - new.astype(np.float64) @ np.array(there).T).min(axis=1)
        assert left[row] == pytest.approx(left.max(), abs=1e-6) and gap == pytest.approx(left.max(), abs=1e-6)
        there.append(new[row].astype(np.float64))
    assert len(set(found.rows.tolist())) == 10


def test_what_adds_nothing_is_not_picked() -> None:
    new = at_angles(40, 40, 0)
    found = farthest_first(new, np.array([distance(40), distance(40), 0], np.float32), 3)
    assert found.rows.tolist() == [0] and found.left == pytest.approx(0, abs=1e-5)
    assert farthest_first(new[:0], np.empty(0, np.float32), 3).rows.tolist() == []


def test_a_vector_of_zeros_is_picked_once() -> None:
    # It is at a distance of 1 from everything, itself included.
    new = np.array([[0, 0], [1, 0]], np.float32)
    assert farthest_first(new, np.array([1, 0.5], np.float32), 5).rows.tolist() == [0, 1]


def test_the_nearest_hash_is_found_beyond_the_first_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "TILE", 4)
    rng = np.random.default_rng(0)
    hashes = [f"{int(one):016x}" for one in rng.integers(0, 2**62, 23)]
    archive = Evidence([f"a{i}" for i in range(23)], hashes, rng.normal(size=(23, 8)))
    # Each one bit from another, in turned order; features have nothing to do with it.
    turned = [f"{int(one, 16) ^ 1:016x}" for one in reversed(hashes)]
    new = Evidence([f"n{i}" for i in range(23)], turned, rng.normal(size=(23, 8)))
    found = judge_batch(Likeness(new, archive, Thresholds(1, 1.0, -1)), 1, np.zeros(23, np.float32), 0.0)
    assert found.nearest.tolist() == list(reversed(range(23))) and set(found.bits.tolist()) == {1}


def test_a_batch_needs_vectors_and_enough_of_an_archive() -> None:
    bare, full = Evidence(["a"]), Evidence(["b"], None, at_angles(0))
    with pytest.raises(UsageError, match="vectors"):
        judge_batch(Likeness(bare, full), 1, np.zeros(1, np.float32), 0.1)
    with pytest.raises(UsageError, match="only 1 others"):
        judge_batch(Likeness(full, full), 2, np.zeros(1, np.float32), 0.1)
