"""The headline in plain words: every figure in it is the row's, and what it lacks is said."""

from dataclasses import replace

from deponij.pipeline.reports.headline import in_words
from deponij.pipeline.reports.table import ResultRow

# 31 of 36 are 86.1 %; 1 of 6 classes is 16.7 %.
ROW = ResultRow(
    "label", "random", "test", "lite", "probe", 36, 36, "items", 6, top1=31 / 36, top1_interval=(0.705, 0.942)
)
CHANCE = replace(ROW, backbone="", method="chance", top1=1 / 6, is_baseline=True)
MAJORITY = replace(CHANCE, method="majority class (cat)", top1=0.25)


def test_it_says_how_many_of_how_many_and_how_sure() -> None:
    said = in_words(ROW, CHANCE, MAJORITY)
    assert (
        "the right one of 6 classes in 86.1 % of cases: 31 of 36 test pictures, from which it learned nothing."
        in said
    )
    assert "between 70.5 % and 94.2 % (95 % interval over 36 items)." in said
    assert said.endswith("Guessing gives 16.7 %, always answering the most frequent class 25.0 %.")


def test_what_is_no_better_than_a_baseline_is_called_so() -> None:
    assert in_words(ROW, CHANCE, replace(MAJORITY, top1=0.8)).endswith("80.0 %, which is not clearly less.")


def test_too_few_groups_and_other_parts_are_said() -> None:
    few = replace(ROW, n_groups=4, unit="photographs", top1_interval=None, part="val")
    said = in_words(few, CHANCE, MAJORITY)
    assert "4 photographs are too few to say how far other pictures would move that." in said
    assert "validation pictures, which also chose it" in said
