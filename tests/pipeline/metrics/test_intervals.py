"""Wilson's interval against published values and its own definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from deponij.pipeline.metrics.intervals import wilson


@pytest.mark.parametrize(
    ("n_hits", "n", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_published_values(n_hits: int, n: int, low: float, high: float) -> None:
    assert wilson(n_hits / n, n) == pytest.approx((low, high), abs=5e-5)


@given(st.floats(0, 1), st.floats(0.5, 5000))
def test_contains_the_share_and_mirrors(share: float, n: float) -> None:
    low, high = wilson(share, n)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    assert wilson(1 - share, n) == pytest.approx((1 - high, 1 - low), abs=1e-9)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))))
def test_bounds_solve_the_score_equation(pair: tuple[int, int]) -> None:
    # The bounds are the p at which |share - p| = z * sqrt(p (1 - p) / n), with z = 1.959964 for 95 %.
    n_hits, n = pair
    low, _ = wilson(n_hits / n, n)
    assert abs(n_hits / n - low) == pytest.approx(1.959963984540054 * (low * (1 - low) / n) ** 0.5, rel=1e-6)


def test_wider_with_more_confidence() -> None:
    at_99, at_50 = (wilson(0.5, 60, norm.ppf(0.5 + confidence / 2)) for confidence in (0.99, 0.5))
    assert at_99[0] < wilson(0.5, 60)[0] < at_50[0] < 0.5


@pytest.mark.parametrize(("share", "n"), [(1.1, 2), (-0.1, 2), (0.5, 0), (float("nan"), 3)])
def test_impossible_shares_are_refused(share: float, n: float) -> None:
    with pytest.raises(ValueError, match="need a share of 0 to 1"):
        wilson(share, n)
