"""The table of results: grouping, baselines and their values by hand."""

import numpy as np
import pytest

from deponij.pipeline.metrics.evaluation import Evaluation, PartScores, not_a_result, shown_part
from deponij.pipeline.metrics.predictions import Predictions
from deponij.pipeline.reports.table import (
    ResultRow,
    by_rank,
    result_groups,
    result_row,
    worth_details,
)


def scores(top1: float, majority: float = 0.4) -> PartScores:
    return PartScores(
        n=50,
        n_groups=20,
        unit="photographs",
        interval_kind="clustered",
        design_effect=1.5,
        top1=top1,
        top2=top1,
        top3=1.0,
        top1_interval=(top1 - 0.1, top1 + 0.1),
        top2_interval=(0.0, 1.0),
        top3_interval=(0.9, 1.0),
        balanced_accuracy=0.5,
        balanced_interval=(0.4, 0.6),
        n_classes=5,
        n_unseen_class=0,
        majority=majority,
    )


def evaluation(backbone: str, split: str, labels: str, top1: float, **changes: object) -> Evaluation:
    values: dict[str, object] = {
        "method": "linear",
        "title": "linear probe",
        "backbone": backbone,
        "labels": labels,
        "split": split,
        "fingerprint": "f" * 20,
        "protocol": "learned",
        "n_classes": 5,
        "classes": tuple("abcde"),
        "chance": 0.2,
        "majority_class": "a",
        "parts": {"train": scores(0.99), "val": scores(top1), "test": scores(1 - top1)},
        "n_items": 100,
        "n_outside_pool": 0,
        "n_without_label": 0,
        "n_without_features": 0,
        "unseen_classes": (),
    }
    return Evaluation.model_validate({**values, **changes})


def test_rows_are_grouped_by_split_and_labels() -> None:
    groups = result_groups(
        [
            evaluation("x", "thesis", "taco10", 0.7),
            evaluation("x", "group", "taco10", 0.6),
            evaluation("y", "thesis", "taco10", 0.8),
        ]
    )
    assert [(group.split, group.labels) for group in groups] == [("thesis", "taco10"), ("group", "taco10")]
    assert [row.backbone for row in groups[0].rows] == ["", "", "x", "y"]
    assert [row.backbone for group in groups for row in group.rows if row.is_chosen] == ["y", "x"]
    assert groups[0].chosen is groups[0].rows[3]


def test_baselines_by_hand() -> None:
    # Five classes; the probe of the second backbone lacks one, so the first one's five count.
    members = [evaluation("x", "s", "l", 0.7), evaluation("y", "s", "l", 0.7, n_classes=4)]
    chance, majority, *_ = result_groups(members)[0].rows
    assert (chance.top1, chance.top2, chance.top3, chance.balanced_accuracy) == (
        0.2,
        0.4,
        pytest.approx(0.6),
        0.2,
    )
    assert (majority.top1, majority.top2, majority.balanced_accuracy) == (0.4, None, 0.2)
    assert majority.method == "majority class (a)"
    assert chance.is_baseline
    assert majority.is_baseline
    assert chance.top1_interval is None


def test_chance_is_clamped_and_an_absent_majority_class_scores_nothing() -> None:
    two = evaluation("x", "s", "l", 0.7, n_classes=2, parts={"test": scores(0.7, majority=0.0)})
    chance, majority, _ = result_groups([two])[0].rows
    assert (chance.top2, chance.top3) == (1.0, 1.0)
    assert (majority.top1, majority.balanced_accuracy) == (0.0, 0.0)


def test_test_is_shown_and_else_the_last_part() -> None:
    assert shown_part(evaluation("x", "s", "l", 0.7).parts) == "test"
    only = evaluation("x", "s", "l", 0.7, parts={"train": scores(0.9), "val": scores(0.8)})
    assert shown_part(only.parts) == "val"
    assert [bool(not_a_result(part)) for part in ("train", "val", "test")] == [True, True, False]
    assert (result_row(only).top1, result_row(only).val_top1) == (0.8, 0.8)


def test_fields_of_other_methods_are_ignored() -> None:
    assert evaluation("x", "s", "l", 0.7, temperature=3.0).method == "linear"


def rows_of(*scored: tuple[str, float]) -> list[ResultRow]:
    group = result_groups([evaluation(backbone, "s", "l", top1) for backbone, top1 in scored])[0]
    return [row for row in group.rows if not row.is_baseline]


def test_validation_chooses_and_test_does_not() -> None:
    # Test figures run the other way: what is right more often on validation is right less often there.
    group = result_groups([evaluation(name, "s", "l", top1) for name, top1 in (("x", 0.6), ("y", 0.7))])[0]
    assert group.chosen is not None
    assert (group.chosen.backbone, group.chosen.top1, group.chosen.val_top1) == ("y", pytest.approx(0.3), 0.7)
    assert [row.backbone for row in by_rank(group.rows)][2:] == ["y", "x"]
    assert group.order == "in order of validation"


def test_equals_go_to_fewer_backbones_and_then_to_the_earlier() -> None:
    group = result_groups([evaluation(name, "s", "l", 0.7) for name in ("x+y", "y", "x")])[0]
    assert [row.backbone for row in by_rank(group.rows)][2:] == ["y", "x", "x+y"]
    assert group.chosen is not None and group.chosen.backbone == "y"


def test_without_validation_none_is_called_the_best() -> None:
    parts = [{"train": scores(0.9), "test": scores(top1)} for top1 in (0.6, 0.7)]
    group = result_groups(
        [evaluation(name, "s", "l", 0.5, parts=one) for name, one in zip("xy", parts, strict=True)]
    )[0]
    assert group.chosen is None
    assert [row.backbone for row in by_rank(group.rows)][2:] == ["y", "x"]
    assert "sorted by the figures of test" in group.order


def test_rows_by_rank_after_the_baselines() -> None:
    members = [evaluation("x", "s", "l", 0.5), evaluation("y", "s", "l", 0.9), evaluation("z", "s", "l", 0.5)]
    ranked = by_rank(result_groups(members)[0].rows)
    assert [row.backbone for row in ranked] == ["", "", "y", "x", "z"]


def test_worth_details_are_each_backbones_first_and_then_the_next() -> None:
    rows = rows_of(("x", 0.5), ("x", 0.9), ("y", 0.4), ("x+y", 0.8), ("x", 0.7), ("y", 0.6))
    # First of all and of x: place 1; first of y: 5; then the joined one, 3; then 4. Always by rank.
    assert worth_details(rows, 1) == [1]
    assert worth_details(rows, 2) == [1, 5]
    assert worth_details(rows, 3) == [1, 3, 5]
    assert worth_details(rows, 4) == [1, 3, 4, 5]
    assert worth_details(rows, 100) == [1, 3, 4, 5, 0, 2]


def test_a_joined_model_that_is_first_has_details() -> None:
    assert worth_details(rows_of(("x", 0.5), ("x+y", 0.8), ("y", 0.4)), 2) == [1, 0]


def test_toys_come_after_all_that_is_real() -> None:
    members = [
        evaluation(name, "s", "l", top1) for name, top1 in (("t", 0.9), ("x+t", 0.8), ("x", 0.6), ("y", 0.7))
    ]
    group = result_groups(members, {"t"})[0]
    assert [(row.backbone, row.is_toy) for row in by_rank(group.rows)] == [
        ("", False),
        ("", False),
        ("y", False),
        ("x", False),
        ("t", True),
        ("x+t", True),
    ]
    assert group.chosen is not None and group.chosen.backbone == "y"
    rows = [row for row in group.rows if not row.is_baseline]
    assert [rows[place].backbone for place in worth_details(rows, 3)] == ["y", "x", "t"]
    assert group.rows[2].to_json()["is_toy"] is True
    only = result_groups(members[:2], {"t"})[0]
    assert only.chosen is not None and (only.chosen.backbone, only.chosen.is_toy) == ("t", True)


def test_what_choosing_is_worth_is_told_of_real_ones_with_the_same_folds() -> None:
    """By hand: fold 0 is answered by who is best on folds 1 and 2, and so on."""
    folds = np.array([0, 0, 1, 1, 2, 2])

    def answers(right: str, folds: np.ndarray = folds) -> Predictions:
        said = np.array([["a" if one == "1" else "b"] for one in right])
        ids = np.array([f"i{row}" for row in range(6)])
        return Predictions(
            ids=ids,
            parts=np.full(6, "test"),
            truth=np.full(6, "a"),
            groups=ids,
            top_labels=said,
            top_probs=np.ones((6, 1), np.float32),
            folds=folds,
        )

    def member(backbone: str, right: str) -> Evaluation:
        parts = {"test": scores(right.count("1") / 6)}
        return evaluation(backbone, "s", "l", 0.5, parts=parts, n_folds=3)

    # x has 4 right, y 3; the toy has all, and so has one whose folds are others.
    right = {"x": "110011", "y": "011100", "toy": "111111"}
    members = [member(name, one) for name, one in right.items()]
    given = [answers(one) for one in right.values()]
    row = result_groups(members, {"toy"}, given)[0].chosen
    # Fold 0: x has 2 of the others, y 2: the first, x: 2 right. Fold 1: x 4, y 1: x: 0. Fold 2: x 2, y 3: y: 0.
    assert row is not None
    assert (row.backbone, row.n_candidates, row.fair_top1) == ("x", 2, pytest.approx(2 / 6))
    assert row.top1 == pytest.approx(4 / 6)
    elsewhere = [*given[:2], answers("111111", folds[::-1].copy())]
    members[2] = member("z", "000000")
    row = result_groups(members, set(), elsewhere)[0].chosen
    assert row is not None and (row.backbone, row.n_candidates, row.fair_top1) == (
        "x",
        2,
        pytest.approx(2 / 6),
    )
