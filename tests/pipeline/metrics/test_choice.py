"""Choosing one of several classifiers: the rule by hand, and by simulation what it does to the interval of its figure."""

from itertools import pairwise

import numpy as np

from deponij.pipeline.metrics.choice import Preference, chosen, preference
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
