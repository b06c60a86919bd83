"""Labelled examples are joined by id and everything left out is counted."""

from collections.abc import Iterable

import pytest

from deponij.pipeline.heads.examples import count_by_class, join_examples
from deponij.store.errors import DataError

LABELS = {"i0": "cup", "i1": None, "i2": "can", "i3": "cup", "i4": "can", "i5": "lid"}
ALONE = {name: name for name in LABELS}
PARTS = {"i4": "test", "i3": "train", "i0": "train", "i1": "train", "i5": "val", "i2": None}


def alone(names: Iterable[str]) -> dict[str, str]:
    return {name: name for name in names}


def test_joined_by_id_in_item_order() -> None:
    groups = {"i0": "p", "i1": "p", "i2": "q", "i3": "q", "i4": "p", "i5": "r"}
    examples = join_examples(LABELS, PARTS, groups, ["i5", "i4", "i2", "i1", "i0"])
    assert examples.ids.tolist() == ["i0", "i4", "i5"]
    assert examples.labels.tolist() == ["cup", "can", "lid"]
    assert examples.parts.tolist() == ["train", "test", "val"]
    assert examples.groups.tolist() == ["p", "p", "r"]
    assert examples.pool_classes == ("can", "cup", "lid")
    assert examples.rows("test").tolist() == [1]
    assert (examples.n_items, examples.n_outside_pool) == (6, 1)
    assert (examples.n_without_label, examples.n_without_features) == (1, 1)


def test_items_that_the_split_lacks_are_outside_the_pool() -> None:
    assert join_examples(LABELS, {"i0": "train"}, ALONE, LABELS).n_outside_pool == 5


def test_majority_class_is_that_of_training() -> None:
    examples = join_examples(
        dict(enumerate_labels("aabbbb")), dict(enumerate_labels("RRRTTT", PART)), alone("012345"), "012345"
    )
    assert examples.majority_class == "a"
    only_test = join_examples({"i": "b", "j": "a"}, {"i": "test", "j": "test"}, alone("ij"), ["i", "j"])
    assert only_test.majority_class == "a"


PART = {"R": "train", "T": "test"}


def enumerate_labels(text: str, names: dict[str, str] | None = None) -> list[tuple[str, str]]:
    return [(str(i), (names or {}).get(letter, letter)) for i, letter in enumerate(text)]


def test_strangers_in_the_split_are_refused() -> None:
    with pytest.raises(DataError, match=r"1 items that the items table lacks.*'x9'"):
        join_examples(LABELS, {"i0": "train", "x9": "test"}, ALONE, LABELS)


def test_an_empty_selection_is_refused_with_its_counts() -> None:
    with pytest.raises(DataError, match="of 6 items 5 have a part in the split, of these 4 have a label"):
        join_examples(LABELS, PARTS, ALONE, [])


def test_counts_by_class() -> None:
    examples = join_examples(LABELS, PARTS, ALONE, LABELS)
    assert count_by_class(examples.labels, ["can", "cup", "lid", "none"]) == [1, 2, 1, 0]


def test_gaps_are_told() -> None:
    labels = {"a": "Can", "b": "Can", "c": "Cup", "d": "Can", "e": "Lid"}
    parts = {"a": "train", "b": "train", "c": "train", "d": "test", "e": "test"}
    found = join_examples(labels, parts, alone(labels), list(labels)).gaps()
    assert found == ("There is a single training item of Cup.", "There is no test item of Cup.")
    many = {f"{i:02d}": f"class {i:02d}" for i in range(12)}
    told = join_examples(many, dict.fromkeys(many, "train"), alone(many), list(many)).gaps()
    assert len(told) == 1 and told[0].endswith("class 09 and 2 more classes.")


def test_a_backbone_is_not_tested_by_what_it_has_learned_from() -> None:
    """Of its own training items those of the part `test` go; those that others learn from stay."""
    labels = dict.fromkeys("abcdef", "can")
    parts: dict[str, str | None] = dict(
        zip("abcdef", ["train", "train", "val", "test", "test", "test"], strict=True)
    )
    found = join_examples(labels, parts, alone(labels), list(labels), tuned_on=["a", "d", "e"])
    assert found.ids.tolist() == ["a", "b", "c", "f"]
    assert (found.n_tuned_on, found.n_without_features) == (2, 0)
    assert join_examples(labels, parts, alone(labels), list(labels), tuned_on=["a", "b"]).n_tuned_on == 0


def test_folds_test_every_item_so_that_none_may_have_been_learned_from() -> None:
    labels = dict.fromkeys("abcd", "can")
    parts: dict[str, str | None] = dict.fromkeys("abcd", "test")
    folds = {name: number for number, name in enumerate("abcd")}
    found = join_examples(labels, parts, alone(labels), list(labels), folds=folds, tuned_on=["b"])
    assert (found.ids.tolist(), found.n_tuned_on) == (["a", "c", "d"], 1)


def test_a_split_that_tests_nothing_else_is_refused() -> None:
    parts: dict[str, str | None] = {"a": "train", "b": "test", "c": "test"}
    with pytest.raises(DataError, match="tuned on all 2 items that this split would test it by"):
        join_examples(dict.fromkeys("abc", "can"), parts, alone("abc"), "abc", tuned_on="abc")
