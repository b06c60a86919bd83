"""Means over clusters: against NumPy, SciPy, sums by hand, and worlds whose truth is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t

from benchmarks.interval_coverage import (
    ACCURACIES,
    ICCS,
    coverage,
    coverage_of_runs,
    over_crops,
    over_photographs,
)
from deponij.pipeline.metrics.clustered import Estimate, clustered_means, mean_of_runs, unit_of
from deponij.pipeline.metrics.intervals import wilson

# Crops of a photograph: most have one or two, a few have dozens; about as in collections of litter.
SIZES = np.repeat([1, 2, 3, 4, 5, 7, 10, 15, 25, 60], [410, 210, 120, 80, 60, 50, 35, 20, 11, 4])


def leave_out(statistic, clusters):
    """The jackknife by its definition: (G - 1) / G times the sum of squares of what leaving one out changes."""
    whole, names = statistic(np.ones(len(clusters), bool)), np.unique(clusters)
    without = [statistic(clusters != name) for name in names]
    return (len(names) - 1) / len(names) * sum((one - whole) ** 2 for one in without)


def test_means_and_variances_are_those_of_leaving_out_one_by_one() -> None:
    rng = np.random.default_rng(0)
    values, clusters = rng.random((60, 2)), rng.integers(12, size=60)
    classes = np.array(["a", "b", "c", "d"])[rng.choice(4, 60, p=[0.6, 0.3, 0.08, 0.02])]
    classes[:2] = "d"  # A class of one cluster: it vanishes with it.
    clusters[classes == "d"] = 3
    found = clustered_means(values, clusters, classes)

    def macro(kept, j):
        names = np.unique(classes[kept])
        return np.mean([values[kept & (classes == name), j].mean() for name in names])

    for j in (0, 1):
        assert found.micro[j].value == pytest.approx(values[:, j].mean())
        assert found.micro[j].variance == pytest.approx(
            leave_out(lambda kept, j=j: values[kept, j].mean(), clusters)
        )
        assert found.macro[j].value == pytest.approx(macro(np.ones(60, bool), j))
        assert found.macro[j].variance == pytest.approx(leave_out(lambda kept, j=j: macro(kept, j), clusters))
        for c, name in enumerate("abc"):
            own = classes == name
            expected = leave_out(lambda kept, j=j, own=own: values[own][kept, j].mean(), clusters[own])
            assert found.by_class[c][j].value == pytest.approx(values[own, j].mean())
            assert found.by_class[c][j].variance == pytest.approx(expected)
            assert found.by_class[c][j].n_clusters == len(set(clusters[own].tolist()))
    assert found.n_clusters == found.micro[0].n_clusters == len(set(clusters.tolist()))


def test_a_class_that_does_not_occur_is_none_and_not_0() -> None:
    """Macro by hand. Leaving out cluster 2, the only one with class b, leaves class a: 3/4, not (3/4 + 0) / 2."""
    values, clusters, classes = [1, 1, 1, 0, 0], [0, 0, 1, 1, 2], ["a", "a", "a", "a", "b"]
    (found,) = clustered_means(np.array(values)[:, None], clusters, classes).macro
    assert found.value == (3 / 4 + 0) / 2
    # Without cluster 0: a 1/2, b 0; without 1: a 1, b 0; without 2: a 3/4.
    assert found.variance == pytest.approx(
        2 / 3 * ((1 / 4 - 3 / 8) ** 2 + (1 / 2 - 3 / 8) ** 2 + (3 / 4 - 3 / 8) ** 2)
    )


def test_clusters_of_one_give_the_variance_of_a_mean() -> None:
    """Expected: s^2 / n, of NumPy; the interval is then as wide as Wilson's or Student's."""
    values = np.random.default_rng(1).random(200)
    (found,) = clustered_means(values[:, None], np.arange(200), np.zeros(200)).micro
    assert found.variance == pytest.approx(values.var(ddof=1) / 200)
    assert found.design_effect == pytest.approx(1)
    expected = t.interval(0.95, 199, values.mean(), values.std(ddof=1) / np.sqrt(200))
    assert found.interval == pytest.approx(expected, abs=0.001)
    hits = values < 0.7
    (share,) = clustered_means(hits[:, None], np.arange(200), np.zeros(200)).micro
    assert share.interval == pytest.approx(wilson(hits.mean(), 200), abs=0.001)


def test_equal_rows_of_a_cluster_tell_no_more_than_one() -> None:
    """Nine copies of each value: the interval is that of the 100 clusters, and the design effect is nine."""
    values = np.random.default_rng(3).random(100)
    alone = clustered_means(values[:, None], np.arange(100), np.zeros(100)).micro[0]
    copied = clustered_means(
        np.repeat(values, 9)[:, None], np.repeat(np.arange(100), 9), np.zeros(900)
    ).micro[0]
    assert copied.interval == pytest.approx(alone.interval)
    # Variances of 900 and of 100 values have n - 1 for n.
    assert copied.design_effect == pytest.approx(9 * 899 / 900 * 100 / 99, rel=1e-9)


def test_a_rare_class_that_happens_to_be_right_is_not_certain() -> None:
    """Rows of a rare class vary as those of all classes do about their class's mean: pooled, by hand."""
    values = np.array([1] * 30 + [0] * 10 + [1, 1])
    (found,) = clustered_means(values[:, None], np.arange(42), [0] * 40 + [1, 1]).macro
    pooled = 40 * (3 / 4) * (1 / 4) / (42 - 2)
    assert found.variance_of_rows == pytest.approx(pooled * (1 / 40 + 1 / 2) / 4)
    assert found.variance < found.variance_of_rows
    low, high = found.interval
    assert low < 0.65 < high


@given(st.integers(0, 60), st.integers(10, 40))
def test_ends(n_hits: int, n: int) -> None:
    """All right or all wrong is Wilson's for the clusters, and hardly less right has no higher bound."""
    hits = np.arange(60) < n_hits
    (found,) = clustered_means(hits[:, None], np.arange(60) % n, np.zeros(60)).micro
    low, high = found.interval
    assert 0 <= low <= n_hits / 60 <= high <= 1
    assert low <= wilson(1, n)[0]
    assert high >= wilson(0, n)[1]
    if n_hits in (0, 60):
        assert found.interval == wilson(n_hits / 60, n)


def test_under_ten_clusters_there_is_no_interval() -> None:
    hits = np.arange(90)[:, None] % 3 < 2
    for n, is_none in ((9, True), (10, False)):
        found = clustered_means(hits, np.arange(90) % n, np.arange(90) // 45)
        assert (found.micro[0].interval is None) == is_none
        assert (found.macro[0].interval is None) == is_none
    # A class of fewer has none, even where all have enough.
    rare = clustered_means(hits, np.arange(90) // 6, np.arange(90) // 54)
    assert rare.n_clusters == 15
    assert [one.interval is None for (one,) in rare.by_class] == [True, True]
    assert rare.micro[0].interval is not None


def test_clusters_are_called_items_where_each_stands_alone() -> None:
    assert (unit_of("photographs", 7, 7), unit_of("groups", 6, 7)) == ("items", "groups")


@pytest.mark.parametrize(
    ("values", "clusters"), [(np.empty((0, 2)), []), (np.ones((2, 1)), [0]), (np.ones(2), [0, 1])]
)
def test_no_values_are_refused(values: np.ndarray, clusters: list[int]) -> None:
    with pytest.raises(ValueError, match="need values"):
        clustered_means(values, clusters, clusters)


def test_runs_by_hand() -> None:
    hits = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]])
    micro, macro = mean_of_runs(hits, [0, 0, 1, 1], ["a", "a", "a", "b"])
    # Accuracies 3/4, 2/4, 1/4; their sample variance is (1/16 + 0 + 1/16) / 2.
    assert (micro.value, *micro.runs) == pytest.approx((0.5, 0.75, 0.5, 0.25))
    assert micro.std == pytest.approx(0.25)
    # Recalls of a: 1, 2/3, 1/3; of b: 0.
    assert macro.runs == pytest.approx((1 / 2, 1 / 3, 1 / 6))
    assert macro.value == pytest.approx(1 / 3)
    # Leaving out either photograph: 1/3 + ... of mean hits 1, 2/3 and 1/3, 0.
    assert micro.variance == pytest.approx(1 / 2 * ((1 / 6 - 1 / 2) ** 2 + (5 / 6 - 1 / 2) ** 2))


def test_runs_add_their_variance_to_that_of_clusters() -> None:
    """Expected: Satterthwaite's degrees of freedom and SciPy's t, at a share of 1/2 where Wilson's is symmetric."""
    one = Estimate(
        0.5, variance=0.001, variance_of_rows=0.0004, n_clusters=80, n_effective=41, runs=(0.46, 0.5, 0.54)
    )
    of_runs = 0.04**2 / 3
    df = (0.001 + of_runs) ** 2 / (0.001**2 / 40 + of_runs**2 / 2)
    expected = wilson(0.5, 0.25 / (0.001 + of_runs), t.ppf(0.975, df))
    assert one.interval == pytest.approx(expected, rel=1e-6)
    assert one.design_effect == pytest.approx(2.5)


def test_runs_that_always_agree_are_no_more_certain_than_one() -> None:
    one = np.random.default_rng(8).random((1, 160)) < 0.6
    groups, classes = np.arange(160) // 2, np.arange(160) % 5
    alone, five = (mean_of_runs(np.repeat(one, n, axis=0), groups, classes)[0] for n in (1, 5))
    assert (alone.std, five.std) == (None, 0)
    assert five.interval == pytest.approx(alone.interval)


@pytest.mark.parametrize("shape", [(3,), (0, 4), (4, 0)])
def test_no_runs_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"values \[runs, items\]"):
        mean_of_runs(np.zeros(shape), np.zeros(shape[-1]), np.zeros(shape[-1]))


N_WORLDS = 2000


def least(n: int) -> float:
    """93 %, less two standard errors of so many worlds."""
    return 0.93 - 2 * np.sqrt(0.93 * 0.07 / n)


@pytest.mark.parametrize("accuracy", ACCURACIES)
@pytest.mark.parametrize("icc", ICCS)
def test_interval_holds_the_truth_as_often_as_it_says(icc: float, accuracy: float) -> None:
    assert coverage(over_photographs, SIZES, 100, accuracy, icc, N_WORLDS) >= least(N_WORLDS)
    for n_photos in (20, 30):
        assert coverage(over_photographs, SIZES, n_photos, accuracy, icc, 500) >= least(500)


def test_worlds_are_hard_enough() -> None:
    """Crops as if they stood alone hold the truth where they do, and far too seldom where they do not."""
    assert coverage(over_crops, SIZES, 100, 0.6, 0.0, N_WORLDS) > 0.93
    assert coverage(over_crops, SIZES, 100, 0.6, 0.3, N_WORLDS) < 0.8


@pytest.mark.parametrize("n_runs", [3, 5, 10])
def test_interval_of_several_runs_holds_what_others_would_give(n_runs: int) -> None:
    """The truth is the expectation over trainings and photographs; runs wobble about as much as photographs do."""
    alone, both = coverage_of_runs(SIZES, 100, 0.6, n_runs, 0.15, 1000)
    assert both >= least(1000)
    # Photographs alone would not do.
    assert alone < 0.92
