"""Scales and ticks by hand; nothing that is drawn can become markup."""

from xml.etree import ElementTree

import pytest

from deponij.pipeline.reports.svg import Scale, drawing, element, linear_ticks, log_ticks, path, text, told


def test_a_linear_scale() -> None:
    scale = Scale(0.0, 4.0, 100, 300)
    assert [scale.at(value) for value in (0, 1, 4, 5)] == [100, 150, 300, 350]


def test_a_scale_may_run_backwards_as_the_vertical_one_does() -> None:
    assert [Scale(0, 1, 200, 0).at(value) for value in (0, 0.25, 1)] == [200, 150, 0]


def test_a_logarithmic_scale_puts_equal_factors_at_equal_distances() -> None:
    scale = Scale(10, 1000, 0, 100, is_log=True)
    assert [scale.at(value) for value in (10, 100, 1000)] == pytest.approx([0, 50, 100])


@pytest.mark.parametrize("is_log", [False, True])
def test_a_single_value_lies_in_the_middle(is_log: bool) -> None:
    assert Scale(7, 7, 0, 100, is_log).at(7) == 50


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.12, 0.48, [0.2, 0.3, 0.4]),
        (0.5, 0.5, [0.5]),
    ],
)
def test_linear_ticks_are_round_and_within(low: float, high: float, expected: list[float]) -> None:
    assert linear_ticks(low, high) == pytest.approx(expected)


def test_log_ticks() -> None:
    assert log_ticks(8, 600) == [10, 20, 50, 100, 200, 500]
    assert log_ticks(1, 10) == [1, 2, 5, 10]
    assert log_ticks(1, 1e6) == pytest.approx([10.0**i for i in range(7)])
    assert log_ticks(3, 4) == []


def test_path_data_is_short() -> None:
    assert path([(0, 1.5), (2.004, 3.1), (-0.001, 4)]) == "M0 1.5L2 3.1L0 4"


def test_attributes_and_words_are_escaped() -> None:
    hostile = '"><script>alert(1)</script>&'
    drawn = drawing([told(text(hostile, hostile, class_="x"), hostile)], hostile, 10, 20, "odd")
    assert "<script" not in drawn
    svg = ElementTree.fromstring(drawn)
    assert svg.get("aria-label") == hostile
    assert svg.findtext("g/title") == hostile
    assert svg.find("g/text").findtext("title") == hostile
    assert svg.get("viewBox") == "0 0 10 20"


def test_names_of_attributes() -> None:
    assert element("a", class_="b", text_anchor="c", x=1.0) == '<a class="b" text-anchor="c" x="1"/>'
