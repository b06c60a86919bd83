"""Error consistency: cases by hand, SciPy's distance, scikit-learn's kappa, and what happens at the ends."""

from math import log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import cohen_kappa_score

from deponij.pipeline.metrics.agreement import (
    Agreement,
    agreement,
    error_consistency,
    jensen_shannon,
    mean_agreement,
)

NOTHING_IN_COMMON = sqrt(log(2))


def observed(truth: str, a: str, b: str) -> Agreement:
    """One letter an item; a dash is no answer."""
    arrays = [np.array([letter.replace("-", "") for letter in letters]) for letters in (truth, a, b)]
    return agreement(*arrays)


def test_kappa_by_hand() -> None:
    # A has 3 of 4 right, B 2 of 4; both agree on 3: c_exp = 3/4 * 2/4 + 1/4 * 2/4 = 1/2, kappa = 1/2.
    assert error_consistency([1, 1, 1, 0], [1, 1, 0, 0]) == (0.75, 0.5, 0.5)
    # Each right where the other is wrong: c_obs = 0, c_exp = 1/2.
    assert error_consistency([1, 1, 0, 0], [0, 0, 1, 1]) == (0.0, 0.5, -1.0)
    # One who is always right agrees with anybody just as often as by chance.
    assert error_consistency([1, 1, 1, 1], [1, 1, 1, 0]) == (0.75, 0.75, 0.0)


def test_kappa_of_those_who_always_agree_is_1() -> None:
    assert error_consistency([1, 0, 1], [1, 0, 1])[2] == 1
    # Both perfect or both always wrong: c_exp is 1 too, and 0/0 must not come of it.
    assert error_consistency([1, 1], [1, 1]) == (1.0, 1.0, 1.0)
    assert error_consistency([0, 0], [0, 0]) == (1.0, 1.0, 1.0)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_kappa_is_cohens(pairs: list[tuple[bool, bool]]) -> None:
    a, b = zip(*pairs, strict=True)
    found = error_consistency(a, b)
    if len({*a, *b}) == 2:
        assert found[2] == pytest.approx(cohen_kappa_score(a, b), abs=1e-9)
    assert found == error_consistency(b, a)
    assert found[2] <= 1


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=20))
def test_distance_equals_scipy(pairs: list[tuple[int, int]]) -> None:
    p, q = (np.array(column) for column in zip(*pairs, strict=True))
    if p.any() and q.any():
        # SciPy's own rounding near 0 is taken to a root: 1e-16 becomes 1e-8.
        assert jensen_shannon(p, q) == pytest.approx(np.nan_to_num(jensenshannon(p, q)), abs=1e-7)
        assert 0 <= jensen_shannon(p, q) <= NOTHING_IN_COMMON + 1e-12


def test_distance_at_its_ends() -> None:
    assert jensen_shannon([1, 2, 3], [2, 4, 6]) == pytest.approx(0, abs=1e-7)
    assert jensen_shannon([1, 0], [0, 5]) == pytest.approx(NOTHING_IN_COMMON)


def test_distances_by_hand() -> None:
    found = observed("aaabbbcc", "abbbacca", "acabaaca")
    # A's errors: a->b, a->b, b->a, b->c, c->a; by true class 2, 2, 1 of 5.
    # B's errors: a->c, b->a, b->a, c->a; by true class 1, 2, 1 of 4.
    assert (found.accuracy_a, found.accuracy_b) == (3 / 8, 4 / 8)
    assert found.js_class == pytest.approx(jensenshannon([2, 2, 1], [1, 2, 1]))
    # Cells ab, ac, ba, bc, ca (cb is empty).
    assert found.js_inter == pytest.approx(jensenshannon([2, 0, 1, 1, 1], [0, 1, 2, 0, 1]))
    # Right: A at 0, 3, 6; B at 0, 2, 3, 6.
    assert found.observed_agreement == 7 / 8
    assert found.expected_agreement == pytest.approx(3 / 8 * 1 / 2 + 5 / 8 * 1 / 2)
    assert found.kappa == pytest.approx((7 / 8 - 1 / 2) / (1 / 2))


def test_observers_without_errors_have_no_distance() -> None:
    perfect = observed("abab", "abab", "abba")
    assert (perfect.js_class, perfect.js_inter) == (None, None)
    assert (perfect.accuracy_a, perfect.accuracy_b, perfect.kappa) == (1.0, 0.5, 0.0)
    both = observed("ab", "ab", "ab")
    assert (both.kappa, both.js_class, both.js_inter) == (1.0, None, None)


def test_disjoint_errors_are_as_far_apart_as_can_be() -> None:
    found = observed("aabb", "bbbb", "aaaa")
    assert found.js_class == pytest.approx(NOTHING_IN_COMMON)
    assert found.js_inter == pytest.approx(NOTHING_IN_COMMON)
    assert (found.observed_agreement, found.kappa) == (0.0, -1.0)
    # The same true classes, but other wrong answers.
    others = observed("aabb", "bbaa", "cccc")
    assert others.js_class == pytest.approx(0, abs=1e-7)
    assert others.js_inter == pytest.approx(NOTHING_IN_COMMON)
    assert others.kappa == 1.0


def test_no_answer_is_wrong_but_no_error_of_a_kind() -> None:
    found = observed("aabbcc", "ab-acc", "a-bbca")
    assert (found.n_unanswered_a, found.n_unanswered_b) == (1, 1)
    assert (found.accuracy_a, found.accuracy_b) == (3 / 6, 4 / 6)
    # Both count as wrong at 1, where A is wrong and B is silent.
    assert found.observed_agreement == 3 / 6
    # A: a->b, b->a. B: c->a alone.
    assert found.js_class == pytest.approx(jensenshannon([1, 1, 0], [0, 0, 1]))
    silent = observed("ab", "--", "ba")
    assert (silent.accuracy_a, silent.kappa, silent.js_class) == (0.0, 1.0, None)


def test_mean_over_people_skips_those_without_errors() -> None:
    model = "abcacb"
    people = [observed("aabbcc", model, person) for person in ("aabbcc", "aabbca", "babbcc")]
    found = mean_agreement(people)
    assert (found.n_people, found.n_with_errors) == (3, 2)
    assert found.kappa == pytest.approx(np.mean([one.kappa for one in people]))
    assert found.js_class == pytest.approx((people[1].js_class + people[2].js_class) / 2)
    assert found.js_inter == pytest.approx((people[1].js_inter + people[2].js_inter) / 2)
    alone = mean_agreement(people[:1])
    assert (alone.n_with_errors, alone.js_class, alone.js_inter) == (0, None, None)


def test_impossible_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"n >= 1 items, got \(2, 1, 2\)"):
        agreement(np.array(["a", "b"]), np.array(["a"]), np.array(["a", "b"]))
    with pytest.raises(ValueError, match="n >= 1"):
        error_consistency([], [])
    with pytest.raises(ValueError, match="not all 0"):
        jensen_shannon([0, 0], [1, 0])
    with pytest.raises(ValueError, match="nobody|no people"):
        mean_agreement([])
