"""Choosing one of several classifiers: the rule by hand, and by simulation what it does to the interval of its figure."""

from itertools import pairwise

import numpy as np
import pytest

from deponij.pipeline.metrics.choice import Preference, chosen, cross_fitted, preference
from deponij.pipeline.metrics.clustered import clustered_means
from deponij.pipeline.metrics.intervals import wilson

N_WORLDS, N_EQUALS, N_ITEMS, TRUE_TOP1 = 2000, 16, 300, 0.7


def by(val_top1: float | None, *, is_toy: bool = False, n_backbones: int = 1) -> Preference:
    return preference(is_toy=is_toy, judged_top1=val_top1, n_backbones=n_backbones)


def test_the_order_by_hand() -> None:
    ordered = [by(0.9), by(0.8), by(0.8, n_backbones=2), by(0.0), by(None), by(0.99, is_toy=True)]
    assert all(first < second for first, second in pairwise(ordered))
    assert chosen([0.2, 0.7, 0.5], by) == 0.7
    # Of equals the earlier one.
    assert chosen([("a", 0.7), ("b", 0.7)], lambda one: by(one[1])) == ("a", 0.7)


def test_without_validation_nobody_is_chosen() -> None:
    figures = {"a": None, "b": None, "c": 0.1}
    assert chosen("ab", lambda name: by(figures[name])) is None
    assert chosen("", lambda name: by(figures[name])) is None
    assert chosen("abc", lambda name: by(figures[name])) == "c"


def test_the_interval_of_the_chosen_one_holds_and_that_of_the_luckiest_does_not() -> None:
    """Sixteen classifiers of which each is right on 70 % of all items, 2,000 worlds of 300 + 300 items.

    The binomial distribution says which share is right. Two Monte Carlo errors of 95 % in 2,000 worlds are a point.
    """
    rng = np.random.default_rng(0)
    n_right = rng.binomial(N_ITEMS, TRUE_TOP1, size=(N_WORLDS, 2, N_EQUALS))
    covered = {"validation": 0, "test": 0}
    for val, test in n_right:
        by_val = chosen(range(N_EQUALS), lambda i, val=val: by(val[i] / N_ITEMS))
        by_test = chosen(range(N_EQUALS), lambda i, test=test: by(test[i] / N_ITEMS))
        for name, i in (("validation", by_val), ("test", by_test)):
            low, high = wilson(int(test[i]) / N_ITEMS, N_ITEMS)
            covered[name] += low <= TRUE_TOP1 <= high
    assert covered["validation"] / N_WORLDS >= 0.93
    assert covered["test"] / N_WORLDS < 0.85


def test_in_each_fold_answers_who_was_best_on_the_others() -> None:
    # Of the other folds: fold 0 sees b ahead (2 of 2), fold 1 sees a (1 against 0), fold 2 sees both equal, so the first.
    folds = np.array([0, 0, 1, 1, 2])
    a = np.array([1, 0, 0, 0, 0], dtype=bool)
    b = np.array([0, 0, 1, 0, 1], dtype=bool)
    found = cross_fitted(np.stack([a, b]), folds, np.array(list("vwxyz")), np.array(["k"] * 5))
    # fold 0 by b: 0 0; fold 1: a has 1, b has 1 (item 4): the first, a: 0 0; fold 2: a 1, b 1: a: 0.
    assert found.value == 0.0
    assert cross_fitted(b[None], folds, np.array(list("vwxyz")), np.array(["k"] * 5)).value == pytest.approx(
        0.4
    )


def test_choosing_among_equals_is_worth_what_each_is() -> None:
    """Twenty classifiers of 60 %: the best one's own figure flatters, the fair one does not (300 worlds)."""
    rng = np.random.default_rng(0)
    n, fair, best = 120, [], []
    groups, truth = np.arange(n).astype(str), np.array(["k"] * n)
    for _ in range(300):
        right = rng.random((20, n)) < 0.6
        fair.append(cross_fitted(right, np.arange(n) % 10, groups, truth).value)
        best.append(right.mean(axis=1).max())
    assert np.mean(best) > 0.66
    # The standard error of the mean is 0.0026.
    assert abs(np.mean(fair) - 0.6) < 0.012


def test_the_interval_of_choosing_is_that_of_whole_groups() -> None:
    """Of a single classifier nothing is chosen: its interval is that of its own answers, whose groups are alike."""
    rng = np.random.default_rng(0)
    groups, truth = np.repeat(np.arange(30), 4).astype(str), np.tile(["a", "b"], 60)
    right = np.repeat(rng.random(30) < 0.7, 4)
    found = cross_fitted(right[None], np.repeat(np.arange(30) % 5, 4), groups, truth)
    assert found == clustered_means(right[:, None], groups, truth).micro[0]
    assert found.interval is not None
    # Thirty groups that are right or wrong as one tell as much as thirty items: Wilson's interval of these.
    low, high = wilson(right.mean(), 30)
    assert found.interval[1] - found.interval[0] == pytest.approx(high - low, rel=0.15)
