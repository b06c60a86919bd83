"""Which items a try-out takes, and what is told of it."""

from collections import Counter
from collections.abc import Hashable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deponij.pipeline.data.item import OnlyPart
from deponij.pipeline.data.try_out import first_in_turn, part_told, told_part

Groups = list[tuple[Hashable, Hashable]]
PARTS, CLASSES = ("test", "train", "val"), "abcdefghij"
# As folders are sorted: by part, then class.
SORTED: Groups = [(part, label) for part in PARTS for label in CLASSES for _ in range(4)]


def taken(groups: Groups, limit: int) -> Groups:
    return [groups[place] for place in first_in_turn(groups, limit)]


@pytest.mark.parametrize(("limit", "n_classes"), [(6, 2), (15, 5), (30, 10)])
def test_few_items_are_of_all_parts_and_of_the_same_classes_in_each(limit: int, n_classes: int) -> None:
    expected = [(part, label) for part in PARTS for label in CLASSES[:n_classes]]
    assert taken(SORTED, limit) == expected


def test_every_class_gives_its_first_before_any_gives_its_second() -> None:
    groups: Groups = [(None, label) for label in "aaaabbcaa"]
    assert first_in_turn(groups, 1) == [0]
    assert first_in_turn(groups, 3) == [0, 4, 6]
    assert first_in_turn(groups, 5) == [0, 1, 4, 5, 6]
    assert first_in_turn(groups, 6) == [0, 1, 2, 4, 5, 6]
    assert first_in_turn(groups, 9) == first_in_turn(groups, None) == list(range(9))


@given(st.lists(st.tuples(st.sampled_from("xy"), st.sampled_from("abc"))), st.integers(1, 30))
def test_no_group_has_two_more_than_one_that_could_give_more(groups: Groups, limit: int) -> None:
    there, found = Counter(groups), Counter(taken(groups, limit))
    assert sum(found.values()) == min(limit, len(groups))
    assert all(found[a] - found[b] <= 1 for a in there for b in there if found[b] < there[b])


def test_only_a_part_is_told() -> None:
    assert told_part(5, 5, "all") == ()
    assert part_told(["other notes"]) is None
    (note,) = told_part(5, 1234, "as they come")
    assert isinstance(note, OnlyPart)
    assert part_told(["other notes", note]) == "only a part, as asked (limit): 5 of 1,234 items, as they come"
    assert "5 items, the first" in str(told_part(5, None, "the first")[0])
