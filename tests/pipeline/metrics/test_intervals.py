"""Wilson's interval against published values and its own definition; the bootstrap against plain resampling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deponij.pipeline.metrics.intervals import percentile_interval, resampled_means, seed_mean, wilson


@pytest.mark.parametrize(
    ("n_hits", "n", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_published_values(n_hits: int, n: int, low: float, high: float) -> None:
    assert wilson(n_hits, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_contains_the_share_and_mirrors(pair: tuple[int, int]) -> None:
    n_hits, n = pair
    low, high = wilson(n_hits, n)
    assert 0 <= low <= n_hits / n <= high <= 1
    assert wilson(n - n_hits, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))))
def test_bounds_solve_the_score_equation(pair: tuple[int, int]) -> None:
    # The bounds are the p at which |share - p| = z * sqrt(p (1 - p) / n), with z = 1.959964 for 95 %.
    n_hits, n = pair
    low, _ = wilson(n_hits, n)
    assert abs(n_hits / n - low) == pytest.approx(1.959963984540054 * (low * (1 - low) / n) ** 0.5, rel=1e-6)


def test_wider_with_more_confidence() -> None:
    assert wilson(30, 60, 0.99)[0] < wilson(30, 60, 0.95)[0] < wilson(30, 60, 0.5)[0] < 0.5


def test_nothing_is_known_of_no_items() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("n_hits", "n", "confidence"), [(3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0), (1, 2, 0.0)]
)
def test_refuses_impossible_counts(n_hits: int, n: int, confidence: float) -> None:
    with pytest.raises(ValueError, match=r"n_hits|confidence"):
        wilson(n_hits, n, confidence)


def seeds(n_seeds: int = 5, n: int = 160) -> np.ndarray:
    """Hits of seeds that mostly agree, for they look at the same items."""
    rng = np.random.default_rng(8)
    easy = rng.beta(2, 1, size=n)
    return rng.random((n_seeds, n)) < easy


def test_mean_and_deviation_of_seeds_by_hand() -> None:
    hits = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]])
    found = seed_mean(hits)
    assert (found.n_seeds, found.n, found.mean, found.kind) == (3, 4, 0.5, "bootstrap")
    # Accuracies 3/4, 2/4, 1/4; their sample variance is (1/16 + 0 + 1/16) / 2.
    assert found.std == pytest.approx(0.25)


def test_interval_of_seeds_equals_resampling_items_one_by_one() -> None:
    hits = seeds()
    rows = np.random.default_rng(1).integers(0, hits.shape[1], size=(20_000, hits.shape[1]))
    plain = percentile_interval(hits.mean(axis=0)[rows].mean(axis=1))
    assert seed_mean(hits).interval == pytest.approx(plain, abs=0.006)


def test_interval_covers_as_often_as_it_says() -> None:
    # A thousand test sets of items whose chances of being right are known; the truth is their mean.
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(1000):
        easy = rng.beta(2, 1, size=100)
        low, high = seed_mean(rng.random((3, 100)) < easy, n_resamples=400).interval
        covered += low <= 2 / 3 <= high
    assert 0.92 < covered / 1000 < 0.97


def test_seeds_that_always_agree_are_no_more_certain_than_one() -> None:
    one = seeds(1)
    five = seed_mean(np.repeat(one, 5, axis=0))
    assert five.std == 0
    assert five.interval == pytest.approx(wilson(int(one.sum()), one.shape[1]), abs=0.012)


def test_one_seed_or_no_spread_is_wilsons() -> None:
    one = seeds(1)
    assert seed_mean(one).interval == wilson(int(one.sum()), 160)
    assert (seed_mean(one).kind, seed_mean(one).std) == ("wilson", None)
    # All right: a bootstrap would be sure of it.
    perfect = seed_mean(np.ones((5, 30), dtype=bool))
    assert (perfect.mean, perfect.std, perfect.kind) == (1.0, 0.0, "wilson")
    assert perfect.interval == wilson(30, 30)
    # Every item right with one of two seeds.
    assert seed_mean(np.array([[1, 0] * 10, [0, 1] * 10])).interval == wilson(10, 20)


def test_bootstrap_is_deterministic_and_blind_to_order() -> None:
    hits = seeds()
    assert seed_mean(hits) == seed_mean(hits[::-1, ::-1])
    assert seed_mean(hits).interval != seed_mean(hits, seed=1).interval
    assert seed_mean(hits, confidence=0.5).interval[0] > seed_mean(hits).interval[0]


def test_resampled_means_have_the_moments_of_a_mean() -> None:
    values = np.array([0.0, 0.25, 1.0, 1.0, 3.5])
    means = resampled_means(values, 50_000)
    assert means.shape == (50_000,)
    assert means.mean() == pytest.approx(values.mean(), abs=0.01)
    assert means.std() == pytest.approx(values.std() / np.sqrt(5), rel=0.02)


@pytest.mark.parametrize("shape", [(3,), (0, 4), (4, 0)])
def test_no_hits_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"hits \[seeds, items\]"):
        seed_mean(np.zeros(shape))
