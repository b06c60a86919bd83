"""Learning curves: arrangement, places of known points, and the file that the stage writes."""

from xml.etree import ElementTree

import pytest

from deponij.pipeline.metrics.curves import CURVES, CurveRow, Twice
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
    # Across, 10 to 1,000 items lie between 52 and 398, so that 100 are in the middle; up, 18 % to 82 %
    # (the widest bounds and two points more) between 250 and 12.
    svg = ElementTree.fromstring(chart_svg(charts(ROWS)[0], "title"))
    first = next(path for path in svg.iter("path") if path.get("class") == "line q0")
    assert places(first) == [
        pytest.approx((x, up(share)), abs=0.01) for x, share in ((52, 0.3), (225, 0.5), (398, 0.7))
    ]
    band = next(path for path in svg.iter("path") if path.get("class") == "band q0")
    assert band.get("d").startswith(f"M52 {up(0.2):.2f}")
    assert band.get("d").endswith(f"L52 {up(0.4):.2f}Z")


def places(path: ElementTree.Element) -> list[tuple[float, ...]]:
    return [tuple(map(float, pair.split())) for pair in path.get("d")[1:].split("L")]


def up(share: float) -> float:
    return 250 - (share - 0.18) / 0.64 * 238


def test_all_charts_of_a_page_have_the_same_axes() -> None:
    first, second = charts([*ROWS, row("x", 20, 0.95, split="other"), row("x", 5000, 0.99, split="other")])
    assert first.axes == second.axes
    assert (first.axes.across.low, first.axes.across.high) == (10, 5000)
    assert (first.axes.up.low, first.axes.up.high) == pytest.approx((0.18, 1.0))
    assert charts([]) == []


TWICE = Twice(n_pictures=4000, n_train=2000, top1=0.75, band=(0.7, 0.8), gain=0.05, gain_band=(0.03, 0.07))


def test_twice_as_many_is_drawn_with_its_band() -> None:
    (chart,) = charts([*ROWS[1:3], row("x", 1000, 0.7, per_class=None, twice=TWICE)])
    # 10 to 2,000 items now lie between 52 and 398.
    svg = ElementTree.fromstring(chart_svg(chart, "title"))
    (ahead,) = [path for path in svg.iter("path") if path.get("class") == "line ahead q0"]
    (start, end) = places(ahead)
    assert start == pytest.approx((52 + 346 * 2 / 2.30103, up(0.7)), abs=0.01)
    assert end == pytest.approx((398, up(0.75)), abs=0.01)
    told = "Twice the pictures (4,000): 70–80 % (80 % band), from 70.0 % now; a gain of 3 to 7 points."
    assert f"x: {told}" in [title.text for title in svg.iter("title")]
    assert chart.twice == [("x", told)]


def test_what_cannot_be_told_is_said_and_not_drawn() -> None:
    unknown = Twice(n_pictures=40, n_train=20, unknown="the curve does not rise beyond its noise")
    (chart,) = charts([row("x", 1000, 0.7, per_class=None, twice=unknown)])
    assert "ahead" not in chart_svg(chart, "title")
    assert chart.twice == [
        ("x", "Twice the pictures (40): cannot tell, the curve does not rise beyond its noise.")
    ]


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
    assert [path.get("d") for path in svg.iter("path") if path.get("class") == "line q0"] == ["M225 131"]


def test_words_of_a_point() -> None:
    assert describe(ROWS[1]) == "x, 1 a class (n = 10): 30.0 ± 2.0 % (20.0–40.0)"
    everything = row("x", 4000, 0.8, per_class=None, tries=1, top1_std=None)
    assert describe(everything) == "x, all labels (n = 4,000): 80.0 % (70.0–90.0)"


def test_what_the_stage_writes_is_read() -> None:
    assert CURVES.load(CURVES.dump(ROWS), "curves.json") == ROWS
