"""Paired tests: by hand, against SciPy, and by what they promise on average."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, chi2

from deponij.pipeline.metrics.paired import mcnemar, paired_bootstrap


def hits(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    a = np.repeat([True, True, False, False], [both, only_a, only_b, neither])
    b = np.repeat([True, False, True, False], [both, only_a, only_b, neither])
    return a, b


def test_mcnemar_by_hand() -> None:
    # Of 6 that differ 1 is B's: 2 * (C(6,0) + C(6,1)) / 2^6 = 14/64.
    found = mcnemar(*hits(10, 5, 1, 4))
    assert (found.b, found.c, found.p, found.method) == (5, 1, 14 / 64, "exact")
    # 0 of 8: 2 / 2^8.
    assert mcnemar(*hits(0, 8, 0, 3)).p == 2 / 256


def test_mcnemar_of_equals() -> None:
    assert mcnemar(*hits(3, 0, 0, 2)).p == 1
    assert mcnemar(*hits(3, 4, 4, 2)).p == 1


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_equals_scipys_binomial_test(b: int, c: int) -> None:
    found = mcnemar(*hits(1, b, c, 1))
    theirs = binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert found.p == pytest.approx(theirs, abs=1e-12)


def test_mcnemar_of_very_many_is_the_corrected_chi2() -> None:
    found = mcnemar(*hits(50, 560, 450, 10))
    assert found.method == "chi2"
    assert found.p == pytest.approx(chi2.sf((110 - 1) ** 2 / 1010, 1), abs=1e-12)
    # That far out both agree.
    assert found.p == pytest.approx(binomtest(560, 1010, 0.5).pvalue, rel=0.02)
    assert mcnemar(*hits(0, 600, 600, 0)).p == 1


def test_bootstrap_equals_resampling_items_one_by_one() -> None:
    a, b = hits(60, 25, 10, 25)
    found = paired_bootstrap(a, b)
    assert found.difference == pytest.approx(15 / 120)
    assert found.n == 120
    rows = np.random.default_rng(9).integers(0, 120, size=(20_000, 120))
    plain = (a[rows].mean(axis=1) - b[rows].mean(axis=1)).astype(float)
    assert found.interval == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])), abs=0.009)
    assert found.p == pytest.approx(2 * (plain <= 0).mean(), abs=0.005)


def test_bootstrap_is_as_wide_as_theory_has_it() -> None:
    # The variance of a mean of differences in {-1, 0, 1}: (share that differs - difference^2) / n.
    a, b = hits(300, 60, 40, 100)
    low, high = paired_bootstrap(a, b).interval
    width = 2 * 1.959964 * np.sqrt((100 / 500 - (20 / 500) ** 2) / 500)
    assert high - low == pytest.approx(width, rel=0.05)


def test_bootstrap_is_deterministic_symmetric_and_blind_to_order() -> None:
    a, b = hits(30, 12, 5, 9)
    found, mirrored = paired_bootstrap(a, b), paired_bootstrap(b, a)
    assert found == paired_bootstrap(a, b) == paired_bootstrap(a[::-1], b[::-1])
    assert found != paired_bootstrap(a, b, seed=1)
    assert mirrored.difference == -found.difference
    assert mirrored.p == pytest.approx(found.p, abs=0.01)


def test_bootstrap_at_the_ends() -> None:
    same = paired_bootstrap(*hits(5, 0, 0, 5))
    assert (same.difference, same.interval, same.p) == (0.0, (0.0, 0.0), 1.0)
    apart = paired_bootstrap(*hits(0, 40, 0, 0), n_resamples=999)
    assert (apart.difference, apart.interval, apart.p) == (1.0, (1.0, 1.0), 2 / 1000)


def test_equals_are_called_different_about_once_in_twenty() -> None:
    # Two classifiers that are right at random with one probability.
    rng = np.random.default_rng(0)
    pairs = [rng.random((2, 200)) < 0.7 for _ in range(400)]
    by_bootstrap = np.mean([paired_bootstrap(a, b, n_resamples=1000).p < 0.05 for a, b in pairs])
    by_mcnemar = np.mean([mcnemar(a, b).p < 0.05 for a, b in pairs])
    assert 0.02 < by_bootstrap < 0.09
    # The exact test errs on the safe side.
    assert by_mcnemar < 0.06


@pytest.mark.parametrize("pair", [([], []), ([True], [True, False]), ([[True]], [[True]])])
def test_impossible_pairs_are_refused(pair: tuple[list, list]) -> None:
    for test in (mcnemar, paired_bootstrap):
        with pytest.raises(ValueError, match="the same n >= 1 items"):
            test(*pair)
