"""Learning curves: arrangement, places of known points, and the file that the stage writes."""

from xml.etree import ElementTree

import pytest

from deponij.pipeline.metrics.curves import CURVES, CurveRow
from deponij.pipeline.reports.learning_curves import chart_svg, charts, describe


def row(backbone: str, n_train: int, top1: float, **changes: object) -> CurveRow:
    values: dict[str, object] = {
        "backbone": backbone,
        "fingerprint": "f" * 20,
        "labels": "taco10",
        "split": "group",
        "head": "logistic",
        "per_class": n_train // 10,
        "n_train": n_train,
        "n_classes": 10,
        "n_short_classes": 0,
        "interval_kind": "clustered",
        "n_groups": 40,
        "unit": "photographs",
        "design_effect": 1.5,
        "c": 0.1,
        "tries": 5,
        "n_test": 100,
        "top1": top1,
        "top1_std": 0.02,
        "top1_interval": (top1 - 0.1, top1 + 0.1),
        "balanced_accuracy": top1,
        "balanced_interval": (top1 - 0.1, top1 + 0.1),
    }
    return CurveRow.model_validate({**values, **changes})


ROWS = [row("x", 1000, 0.7), row("x", 10, 0.3), row("x", 100, 0.5), row("y", 10, 0.4), row("y", 1000, 0.6)]


def test_one_chart_for_each_question_and_one_line_for_each_backbone() -> None:
    found = charts([*ROWS, row("x", 10, 0.2, split="thesis"), row("x", 10, 0.2, head="centroid")])
    assert [(chart.split, chart.head) for chart in found] == [
        ("group", "logistic"),
        ("thesis", "logistic"),
        ("group", "centroid"),
    ]
    assert [(name, [point.n_train for point in points]) for name, points in found[0].lines] == [
        ("x", [10, 100, 1000]),
        ("y", [10, 1000]),
    ]


def test_places_by_hand() -> None:
    # Across, 10 to 1,000 items lie between 52 and 460, so that 100 are in the middle; up, 18 % to 82 %
    # (the widest bounds and two points more) between 270 and 12.
    svg = ElementTree.fromstring(chart_svg(charts(ROWS)[0], "title"))
    first = next(path for path in svg.iter("path") if path.get("class") == "line q0")
    places = [tuple(map(float, pair.split())) for pair in first.get("d")[1:].split("L")]
    assert [x for x, _ in places] == pytest.approx([52, 256, 460], abs=0.01)
    assert [y for _, y in places] == pytest.approx(
        [270 - (share - 0.18) / 0.64 * 258 for share in (0.3, 0.5, 0.7)], abs=0.01
    )
    band = next(path for path in svg.iter("path") if path.get("class") == "band q0")
    lower, upper = (270 - (share - 0.18) / 0.64 * 258 for share in (0.2, 0.4))
    assert band.get("d").startswith(f"M52 {lower:.2f}")
    assert band.get("d").endswith(f"L52 {upper:.2f}Z")


def test_ticks_are_labelled_items() -> None:
    svg = ElementTree.fromstring(chart_svg(charts(ROWS)[0], "title"))
    words = [text.text for text in svg.iter("text")]
    assert {"10", "100", "1,000"} <= set(words)


def test_lines_differ_by_colour_and_shape() -> None:
    marks = [key for key, _ in charts(ROWS)[0].keys]
    assert "q0" in marks[0]
    assert "q1" in marks[1]
    assert marks[0].split("M14 8")[1] != marks[1].split("M14 8")[1].replace("q1", "q0")


def test_a_single_point_is_drawn() -> None:
    svg = ElementTree.fromstring(chart_svg(charts(ROWS[:1])[0], "title"))
    assert [path.get("d") for path in svg.iter("path") if path.get("class") == "line q0"] == ["M256 141"]


def test_words_of_a_point() -> None:
    assert describe(ROWS[1]) == "x, 1 a class (n = 10): 30.0 ± 2.0 % [20.0, 40.0]"
    everything = row("x", 4000, 0.8, per_class=None, tries=1, top1_std=None)
    assert describe(everything) == "x, all labels (n = 4,000): 80.0 % [70.0, 90.0]"


def test_what_the_stage_writes_is_read() -> None:
    assert CURVES.load(CURVES.dump(ROWS), "curves.json") == ROWS
