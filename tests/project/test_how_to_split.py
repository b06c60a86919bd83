"""Which split a run makes where nobody names one, by the counts that the rules speak of."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from deponij.project.how_to_split import FEWEST_TESTED, SplitWish
from deponij.store.errors import UsageError
from deponij.store.items import Items, ItemWriter
from deponij.store.keys import key_of_name

# At the usual share of a tenth, so many items are just enough for a test part.
ENOUGH = 10 * FEWEST_TESTED


def items_of(
    root: Path,
    labels: Sequence[str | None],
    *,
    n_failed: int = 0,
    given: str | None = None,
    sets: bool = False,
    per_photo: int = 1,
) -> Items:
    """Items with these labels, and further ones, labelled as the first is, that could not be read."""
    kind = pa.list_(pa.string()) if sets else pa.string()
    with ItemWriter(root, pa.schema([("label", kind)])) as writer:
        for row, label in enumerate([*labels, *[labels[0]] * n_failed]):
            is_sound = row < len(labels)
            name = f"{row:04}.png"
            writer.add(
                content=b"picture" if is_sound else None,
                metadata={"label": [label] if sets else label},
                item_id=name,
                key=key_of_name(name) if is_sound else None,
                image_id=f"photo{row // per_photo}",
                given=given,
                failure=None if is_sound else "cut off",
            )
    return Items(root)


def strategy(items: Items, **wished: object) -> str:
    return SplitWish(**wished).params(items, "label").strategy  # type: ignore[arg-type]


def test_a_test_part_of_too_few_is_folds_and_one_of_enough_is_not(tmp_path: Path) -> None:
    """A tenth of 1,000 is 100; of 999 it is less."""
    for n, expected in ((ENOUGH - 1, "folds"), (ENOUGH, "random")):
        assert strategy(items_of(tmp_path / str(n), ["a", "b"] * (n // 2) + ["a"] * (n % 2))) == expected


def test_only_pictures_that_can_be_read_and_have_a_label_count(tmp_path: Path) -> None:
    labels: list[str | None] = ["a", "b"] * 20 + [None] * ENOUGH
    assert strategy(items_of(tmp_path / "items", labels, n_failed=ENOUGH)) == "folds"


def test_folds_need_half_of_the_items_in_classes_of_three(tmp_path: Path) -> None:
    """Of 3 + 3 single ones half can be folded; of 3 + 4 less."""
    assert strategy(items_of(tmp_path / "half", [*"aaa", *"bcd"])) == "folds"
    assert strategy(items_of(tmp_path / "less", [*"aaa", *"bcde"])) == "random"


def test_photographs_of_several_items_stay_together(tmp_path: Path) -> None:
    labels = ["a", "b"] * (ENOUGH // 2)
    assert strategy(items_of(tmp_path / "crops", labels, per_photo=2)) == "group"


def test_what_data_or_a_user_say_comes_first(tmp_path: Path) -> None:
    few = items_of(tmp_path / "few", ["a", "b"] * 10)
    divided = items_of(tmp_path / "given", ["a", "b"] * 10, given="train")
    assert strategy(divided) == "given"
    assert strategy(divided, n_folds=4) == "folds"
    assert strategy(divided, fractions=(0.6, 0.2, 0.2)) == "random"
    assert strategy(few, fractions=(0.6, 0.2, 0.2)) == "random"
    assert SplitWish(n_folds=4).params(few, "label").n_folds == 4
    with pytest.raises(UsageError, match="--folds goes with --split folds, not with random"):
        strategy(few, strategy="random", n_folds=4)
    with pytest.raises(UsageError, match="no column 'site'"):
        strategy(few, group_by="site")


def test_several_labels_an_item_are_never_folded(tmp_path: Path) -> None:
    found = items_of(tmp_path / "sets", ["a", "b"] * 10, sets=True)
    assert strategy(found) == "random"
    with pytest.raises(UsageError, match="folds take one label an item"):
        strategy(found, n_folds=4)
