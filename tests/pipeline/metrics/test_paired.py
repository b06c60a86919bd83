"""Paired tests: by hand, against SciPy, by trying every exchange, and by what they promise on average."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, permutation_test, t

from benchmarks.interval_coverage import false_positives, worlds
from deponij.pipeline.metrics.paired import PairedDifference, exchange_p, paired_difference

SIZES = np.repeat([1, 2, 3, 4, 5, 7, 10, 15, 25, 60], [410, 210, 120, 80, 60, 50, 35, 20, 11, 4])


def hits(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    a = np.repeat([True, True, False, False], [both, only_a, only_b, neither])
    b = np.repeat([True, False, True, False], [both, only_a, only_b, neither])
    return a, b


def alone(both: int, only_a: int, only_b: int, neither: int) -> PairedDifference:
    a, b = hits(both, only_a, only_b, neither)
    return paired_difference(a, b, np.arange(len(a)))


def test_single_items_by_hand() -> None:
    # Of 6 that differ 1 is B's: 2 * (C(6,0) + C(6,1)) / 2^6 = 14/64.
    found = alone(10, 5, 1, 4)
    assert (found.n, found.only_a, found.only_b, found.n_groups_apart) == (20, 5, 1, 6)
    assert found.p == pytest.approx(14 / 64)
    assert found.difference == 4 / 20
    # 0 of 8: 2 / 2^8. And of five wins of five nothing more can be said than 1/16.
    assert alone(0, 8, 0, 3).p == pytest.approx(2 / 256)
    assert alone(50, 5, 0, 45).p == pytest.approx(0.0625)
    assert alone(3, 0, 0, 2).p == alone(3, 4, 4, 2).p == 1


@given(st.integers(0, 400), st.integers(0, 400))
def test_single_items_give_mcnemars_exact_test(b: int, c: int) -> None:
    theirs = binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert alone(1, b, c, 1).p == pytest.approx(theirs, rel=1e-9, abs=1e-15)


@given(st.lists(st.integers(-6, 6), min_size=1, max_size=11))
def test_groups_by_trying_every_exchange(leads: list[int]) -> None:
    sums = np.array(list(product((-1, 1), repeat=len(leads)))) @ leads
    assert exchange_p(leads) == pytest.approx(np.mean(np.abs(sums) >= abs(sum(leads))))


def test_many_groups_against_scipys_random_exchanges() -> None:
    leads = np.random.default_rng(2).integers(-4, 7, size=60)
    theirs = permutation_test(
        (leads, np.zeros(60)), lambda a, b, axis: (a - b).sum(axis=axis), permutation_type="samples",
        vectorized=True, n_resamples=40_000, rng=1,
    )  # fmt: skip
    assert exchange_p(leads) == pytest.approx(theirs.pvalue, abs=0.005)


def test_a_photographs_crops_count_once() -> None:
    """A wins all forty crops of two photographs: as crops that is p < 1e-11, as photographs 1/2."""
    a, b = hits(0, 40, 0, 0)
    found = paired_difference(a, b, np.arange(40) // 20)
    assert (found.n_groups, found.n_groups_apart, found.interval) == (2, 2, None)
    assert found.p == pytest.approx(0.5)


def test_interval_of_single_items_is_bonett_and_prices() -> None:
    """Their formula: z replaced by t, and n - 1 for n in the variance, since that comes from leaving out."""
    found = alone(60, 25, 10, 105)
    p12, p21, n = 26 / 202, 11 / 202, 202
    half = 1.9719 * np.sqrt((p12 + p21 - (p12 - p21) ** 2) / (n - 1))
    assert found.interval == pytest.approx((p12 - p21 - half, p12 - p21 + half), abs=1e-5)


def test_interval_by_leaving_out_each_photograph() -> None:
    """With two more photographs of mean size, which the two win by the root mean square of the leads that are not 0."""
    leads, sizes = [3, -1, 0, 2, 5, 0, -2, 1, 1, 4], [4, 1, 2, 6, 9, 3, 2, 1, 5, 7]
    a, b = (
        np.concatenate([np.arange(size) < sign * lead for lead, size in zip(leads, sizes, strict=True)])
        for sign in (1, -1)
    )
    usual = (sum(lead**2 for lead in leads) / 8) ** 0.5
    all_leads, all_sizes = [*leads, usual, -usual], [*sizes, 4, 4]
    value = 13 / 48
    without = [(13 - lead) / (48 - size) for lead, size in zip(all_leads, all_sizes, strict=True)]
    std = (11 / 12 * sum((one - value) ** 2 for one in without)) ** 0.5
    half = t.ppf(0.975, 48**2 / sum(size**2 for size in all_sizes) - 1) * std
    groups = np.repeat(np.arange(10), sizes)
    assert paired_difference(a, b, groups).interval == pytest.approx((value - half, value + half))
    # Nine are too few.
    assert paired_difference(a[:33], b[:33], groups[:33]).interval is None


def test_few_differences_are_not_certain() -> None:
    low, high = alone(95, 5, 0, 0).interval
    assert low < 0 < high
    low, high = alone(50, 0, 0, 50).interval
    assert -0.05 < low < 0 < high < 0.05
    assert alone(0, 40, 0, 0).interval[1] == 1


def test_mirrored_and_blind_to_order() -> None:
    a, b = hits(30, 12, 5, 9)
    groups = np.arange(56) // 3
    found, mirrored = paired_difference(a, b, groups), paired_difference(b, a, groups)
    assert paired_difference(a[::-1], b[::-1], groups[::-1]) == found
    assert (mirrored.difference, mirrored.p) == (-found.difference, found.p)
    assert mirrored.interval == pytest.approx((-found.interval[1], -found.interval[0]))


@pytest.mark.parametrize("n_photos", [20, 30, 100])
def test_equals_are_called_different_at_most_once_in_twenty(n_photos: int) -> None:
    n = 2000 if n_photos == 100 else 500
    over_crops, over_photographs = false_positives(SIZES, n_photos, 0.6, 0.3, n)
    assert over_photographs <= 0.06
    # Crops as if they stood alone would not do.
    assert over_crops > 0.15


@pytest.mark.parametrize("icc", [0.0, 0.3])
def test_interval_holds_the_difference_of_equals(icc: float) -> None:
    found = [
        paired_difference(a, b, photos).interval
        for photos, (a, b) in worlds(SIZES, 100, 0.7, icc, 1000, n_models=2)
    ]
    assert np.mean([low <= 0 <= high for low, high in found]) >= 0.93


@pytest.mark.parametrize("pair", [([], []), ([True], [True, False]), ([[True]], [[True]])])
def test_impossible_pairs_are_refused(pair: tuple[list, list]) -> None:
    with pytest.raises(ValueError, match="the same n >= 1 items"):
        paired_difference(*pair, [0])
    with pytest.raises(ValueError, match="a group for each of 2 items"):
        paired_difference([True, False], [True, True], [0])
