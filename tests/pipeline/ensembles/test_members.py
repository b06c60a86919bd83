"""Members are joined by item id and class name, never by position."""

import numpy as np
import pytest

from deponij.pipeline.ensembles.members import Member, align
from deponij.store.errors import DataError


def member(name: str, ids: str, classes: str, logits: list[list[float]]) -> Member:
    return Member(name, np.array(list(ids)), tuple(classes), np.array(logits, dtype=np.float32))


def test_other_orders_of_items_and_classes() -> None:
    one = member("one", "xy", "ab", [[1, 2], [3, 4]])
    other = member("other", "yx", "ba", [[40, 30], [20, 10]])
    found = align([one, other])
    assert (found.ids.tolist(), found.classes) == (["x", "y"], ("a", "b"))
    np.testing.assert_array_equal(found.logits, [[[1, 2], [3, 4]], [[10, 20], [30, 40]]])


def test_a_class_that_a_member_lacks_gets_its_lowest_logit() -> None:
    found = align([member("one", "xy", "ac", [[1, 2], [4, 3]]), member("other", "xy", "b", [[5], [6]])])
    assert found.classes == ("a", "b", "c")
    np.testing.assert_array_equal(found.logits[0], [[1, 1, 2], [4, 3, 3]])
    np.testing.assert_array_equal(found.logits[1], [[5, 5, 5], [6, 6, 6]])


def test_different_items_are_refused() -> None:
    one, other = member("one", "xy", "a", [[1], [2]]), member("other", "yzw", "a", [[1], [2], [3]])
    with pytest.raises(
        DataError,
        match="one and other answer different items: 1 are only in the first, 2 only in the second, such as 'x'",
    ):
        align([one, other])
    with pytest.raises(DataError, match="0 are only in the first, 1 only in the second, such as 'z'"):
        align([member("one", "x", "a", [[1]]), member("other", "xz", "a", [[1], [2]])])
    with pytest.raises(DataError, match="at least one member"):
        align([])
