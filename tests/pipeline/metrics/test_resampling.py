"""Drawing groups anew: how often intervals hold the truth of a known population, and tests call equals different.

The population is the one of `benchmarks/segmentation_intervals.py`, which has the whole table (`docs/numbers.md`).
"""

import numpy as np
import pytest
from scipy.special import stdtrit
from scipy.stats import norm

from benchmarks.segmentation_intervals import C, answered, pictures, truth_of, truths
from deponij.pipeline.metrics.resampling import Draws, exchanged_p, expanded_percentile, sums_by_group
from deponij.pipeline.metrics.segmentation import Figures

N_WORLDS = 300


def test_few_pictures_hold_the_truth_about_as_often_as_is_said() -> None:
    """20 pictures, of which a fifth to a half show the rare classes; plain percentiles hold it in some 91 %."""
    figures, rng = Figures(C), np.random.default_rng(99)
    known = pictures(30_000, 1, rng).sum(axis=0).astype(np.float64)
    held, plain = 0, 0
    for seed in range(N_WORLDS):
        draws = Draws.of(pictures(20, 1, np.random.default_rng(seed)), n_draws=600, seed=seed)
        truth = truth_of(known, draws.whole, "mIoU")
        interval = draws.interval(figures.miou)
        assert interval is not None
        low, high = np.quantile(figures.miou(draws.drawn), [0.025, 0.975])
        held += interval[0] <= truth <= interval[1]
        plain += low <= truth <= high
    # Three standard errors of a share of 300.
    assert held / N_WORLDS >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / N_WORLDS)
    assert held > plain


def test_equals_are_called_different_as_often_as_is_said() -> None:
    called = 0
    for seed in range(N_WORLDS):
        rng = np.random.default_rng(seed)
        where = truths(20, 1, rng)
        a, b = (answered(*where, rng) for _ in range(2))
        called += exchanged_p(a, b, Figures(C).miou, 399) < 0.05
    assert called / N_WORLDS <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / N_WORLDS)


def test_the_levels_are_those_of_students_t() -> None:
    """Of 20 groups the quantile of Student's t with 19 degrees of freedom, times the root of 20/19, as a normal's level."""
    values = np.random.default_rng(0).normal(size=100_000)
    reach = float(stdtrit(19, 0.975)) * np.sqrt(20 / 19)
    low, high = expanded_percentile(values, 20)  # type: ignore[misc]
    assert (low, high) == pytest.approx((-reach, reach), abs=0.04)
    assert high > 1.04 * norm.ppf(0.975)
    assert expanded_percentile(values, 9) is None
    assert expanded_percentile(np.full(5, np.nan), 20) is None


def test_draws_without_a_figure_are_left_out() -> None:
    values = np.array([0.2, np.nan, 0.4, 0.6, np.nan])
    assert expanded_percentile(values, 20) == expanded_percentile(values[np.isfinite(values)], 20)


def test_drawn_sums_are_whole_and_the_same_for_the_same_seed() -> None:
    counts = np.random.default_rng(0).integers(0, 10**9, (17, 3))
    one, other = Draws.of(counts, 300), Draws.of(counts, 300)
    assert np.array_equal(one.drawn, other.drawn) and np.array_equal(one.drawn, np.round(one.drawn))
    assert one.drawn.shape == (300, 3) and np.array_equal(one.whole, counts.sum(axis=0))
    # Each draw has as many groups as there are.
    assert (Draws.of(np.ones((17, 1), np.int64)).drawn == 17).all()


def test_p_of_many_groups_nears_that_of_every_way() -> None:
    """13 groups are tried in all 8,192 ways; with one more that says nothing, p comes from random ways."""
    rng = np.random.default_rng(4)
    a, b = rng.integers(0, 100, (13, 2)), rng.integers(0, 80, (13, 2))

    def share(sums: np.ndarray) -> np.ndarray:
        return sums[:, 0] / sums.sum(axis=1)

    exact = exchanged_p(a, b, share)
    more = [np.append(one, [[0, 0]], axis=0) for one in (a, b)]
    assert exchanged_p(*more, share) == pytest.approx(exact, abs=4 * np.sqrt(0.25 / 9999))


def test_sums_by_group_by_hand() -> None:
    found = sums_by_group(np.array([[1, 2], [3, 4], [5, 6]]), np.array(["b", "a", "b"]))
    assert found.tolist() == [[3, 4], [6, 8]]
