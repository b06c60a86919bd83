"""Means over clusters: against NumPy, scipy's bootstrap and counts by hand."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from deponij.pipeline.metrics.clustered import clustered_means
from deponij.pipeline.metrics.intervals import wilson


def test_means_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    values, clusters = rng.random((60, 3)), rng.integers(9, size=60)
    classes = np.array(["a", "b", "c"])[rng.integers(3, size=60)]
    found = clustered_means(values, clusters, classes)
    by_class = np.array([values[classes == name].mean(axis=0) for name in "abc"])
    np.testing.assert_allclose(found.micro, values.mean(axis=0))
    np.testing.assert_allclose(found.by_class, by_class)
    np.testing.assert_allclose(found.macro, by_class.mean(axis=0))
    assert found.n_clusters == len(set(clusters.tolist()))


def test_clusters_of_one_give_the_usual_bootstrap() -> None:
    """Expected: scipy's percentile bootstrap of the mean, which resamples single values."""
    values = np.random.default_rng(1).beta(0.5, 1, size=200)
    found = clustered_means(values[:, None], np.arange(200), np.zeros(200), n_resamples=5000)
    expected = bootstrap((values,), np.mean, n_resamples=5000, method="percentile", rng=2).confidence_interval
    np.testing.assert_allclose(found.micro_intervals[0], [expected.low, expected.high], atol=0.004)


def test_equal_rows_of_a_cluster_widen_the_interval_by_the_root_of_their_number() -> None:
    """Nine copies of each value tell no more than one: the interval is that of the 100 clusters, not of 900 values."""
    values = np.random.default_rng(3).random(100)
    alone = clustered_means(values[:, None], np.arange(100), np.zeros(100))
    copied = clustered_means(np.repeat(values, 9)[:, None], np.repeat(np.arange(100), 9), np.zeros(900))
    naive = clustered_means(np.repeat(values, 9)[:, None], np.arange(900), np.zeros(900))

    def width(interval: tuple[float, float] | None) -> float:
        assert interval is not None
        return interval[1] - interval[0]

    assert width(copied.micro_intervals[0]) == pytest.approx(width(alone.micro_intervals[0]), rel=1e-9)
    assert width(naive.micro_intervals[0]) == pytest.approx(width(alone.micro_intervals[0]) / 3, rel=0.1)


def test_macro_interval_resamples_whole_clusters() -> None:
    """Expected: the same draws, made and averaged one by one."""
    rng = np.random.default_rng(4)
    values, clusters, classes = rng.random(40), rng.integers(8, size=40), rng.integers(3, size=40)
    found = clustered_means(values[:, None], clusters, classes, n_resamples=300, seed=5)
    draws = np.random.default_rng(5).integers(8, size=(300, 8))
    macro, second = [], []
    for drawn in draws:
        rows = np.concatenate([np.flatnonzero(clusters == c) for c in drawn])
        means = {c: values[rows][classes[rows] == c].mean() for c in set(classes[rows].tolist())}
        macro.append(np.mean(list(means.values())))
        second += [means[2]] if 2 in means else []
    np.testing.assert_allclose(found.macro_intervals[0], np.quantile(macro, [0.025, 0.975]))
    np.testing.assert_allclose(found.class_intervals[2][0], np.quantile(second, [0.025, 0.975]))


def test_where_there_is_nothing_to_resample() -> None:
    right = clustered_means(np.ones((6, 1)), [0, 0, 1, 1, 2, 2], ["a"] * 4 + ["b"] * 2)
    assert right.micro_intervals == (wilson(3, 3),)
    assert right.class_intervals[0] == (wilson(2, 2),)
    # A single photograph says nothing about others.
    assert right.class_intervals[1] == (None,)
    wrong = clustered_means(np.zeros((2, 1)), [0, 1], ["a", "a"])
    assert wrong.micro_intervals == (wilson(0, 2),)
    for values, clusters in ((np.empty((0, 2)), []), (np.ones((2, 1)), [0]), (np.ones(2), [0, 1])):
        with pytest.raises(ValueError, match="need values"):
            clustered_means(values, clusters, clusters)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    data = rng.random((30, 2)), rng.integers(5, size=30), rng.integers(4, size=30)
    whole = clustered_means(*data, n_resamples=100)
    monkeypatch.setattr("deponij.pipeline.metrics.clustered._BLOCK_CELLS", 80)
    assert clustered_means(*data, n_resamples=100).macro_intervals == whole.macro_intervals
