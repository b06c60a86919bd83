"""Dots and whiskers: places of known values, as percentages of the width."""

from xml.etree import ElementTree

import pytest

from deponij.pipeline.reports.interval_plot import Level, Whisker, interval_plot

ROWS = [Whisker("a · probe", 0.75, (0.7, 0.8), is_chosen=True), Whisker("b · probe", 0.5, None)]
LEVELS = [Level("chance", 0.2), Level("always can", 0.3)]


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def test_places_by_hand() -> None:
    # The axis goes from 20 % to 80 %, drawn between 1.5 % and 98.5 % of the width: 75 % is 55/60 along.
    svg = parse(interval_plot(ROWS, LEVELS, "title"))
    dots = [float(dot.get("cx").rstrip("%")) for dot in svg.iter("circle")]
    assert dots == pytest.approx([1.5 + 97 * 55 / 60, 1.5 + 97 * 30 / 60], abs=0.006)
    whisker = next(line for line in svg.iter("line") if line.get("class") == "whisker")
    assert float(whisker.get("x1").rstrip("%")) == pytest.approx(1.5 + 97 * 50 / 60, abs=0.006)
    assert whisker.get("x2") == "98.50%"
    levels = [line.get("x1") for line in svg.iter("line") if line.get("class") == "level"]
    assert levels == ["1.50%", f"{1.5 + 97 / 6:.2f}%"]


def test_rows_lie_below_each_other_and_the_chosen_one_is_marked() -> None:
    svg = parse(interval_plot(ROWS, LEVELS, "title"))
    first, second = (float(dot.get("cy")) for dot in svg.iter("circle"))
    assert second - first == 36
    assert float(svg.get("height")) > second
    assert [group.get("class") for group in svg.iter("g") if group.get("class")] == ["best", "other"]


def test_a_row_without_interval_has_no_whisker() -> None:
    svg = parse(interval_plot(ROWS[1:], [], "title"))
    assert [line.get("class") for line in svg.iter("line")].count("whisker") == 0


def test_tooltips_hold_the_figures() -> None:
    svg = parse(interval_plot(ROWS, LEVELS, "title"))
    assert [title.text for title in svg.findall("g/title")] == [
        "a · probe: 75.0 % [70.0, 80.0]",
        "b · probe: 50.0 % [too few]",
    ]


def test_shares_of_all_and_nothing_stay_inside() -> None:
    rows = [Whisker("x", 1.0, (0.99, 1.0)), Whisker("y", 0.0, (0.0, 0.01))]
    assert [dot.get("cx") for dot in parse(interval_plot(rows, [], "t")).iter("circle")] == [
        "98.50%",
        "1.50%",
    ]


def test_no_rows_no_drawing() -> None:
    assert interval_plot([], LEVELS, "title") == ""


def test_names_are_escaped() -> None:
    hostile = '<img src=x onerror=alert(1)> "&'
    drawn = interval_plot([Whisker(hostile, 0.5, None)], [Level(hostile, 0.1)], hostile)
    assert "<img" not in drawn
    assert next(parse(drawn).iter("div")).text == hostile
