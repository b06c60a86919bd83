"""Wilson's interval against published values and its own definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.metrics.intervals import wilson


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
