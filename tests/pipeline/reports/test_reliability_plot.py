"""Reliability: dots, intervals and gaps of known bins."""

from xml.etree import ElementTree

import pytest

from deponij.pipeline.metrics.calibration import ReliabilityBin
from deponij.pipeline.metrics.intervals import wilson
from deponij.pipeline.reports.reliability_plot import in_words, reliability_plot, shown_bins

BINS = [
    ReliabilityBin(lower=0.0, upper=0.5, n=0, confidence=None, accuracy=None),
    # Promises 60 %, holds 40 %; then the other way round.
    ReliabilityBin(lower=0.5, upper=0.75, n=10, confidence=0.6, accuracy=0.4),
    ReliabilityBin(lower=0.75, upper=1.0, n=40, confidence=0.8, accuracy=1.0),
]
# The square of the plot goes from 40 to 286 and from 254 up to 8.
LEFT, RIGHT, TOP, BOTTOM = 40, 286, 8, 254


@pytest.fixture
def svg() -> ElementTree.Element:
    return ElementTree.fromstring(reliability_plot(BINS, "title"))


def lines(svg: ElementTree.Element, kind: str) -> list[tuple[float, float, float, float]]:
    found = [line for line in svg.iter("line") if line.get("class") == kind]
    return [
        (float(one.get("x1")), float(one.get("y1")), float(one.get("x2")), float(one.get("y2")))
        for one in found
    ]


def across(share: float) -> float:
    return LEFT + share * (RIGHT - LEFT)


def up(share: float) -> float:
    return BOTTOM - share * (BOTTOM - TOP)


def test_dots_lie_at_confidence_and_accuracy(svg: ElementTree.Element) -> None:
    dots = [(float(dot.get("cx")), float(dot.get("cy"))) for dot in svg.iter("circle")]
    assert dots[0] == pytest.approx((across(0.6), up(0.4)), abs=0.01)
    assert dots[1] == pytest.approx((across(0.8), up(1.0)), abs=0.01)


def test_gaps_reach_to_the_diagonal_and_spans_over_the_bin(svg: ElementTree.Element) -> None:
    first, second = lines(svg, "gap")
    assert first == pytest.approx((across(0.6), up(0.4), across(0.6), up(0.6)), abs=0.01)
    assert second == pytest.approx((across(0.8), up(1.0), across(0.8), up(0.8)), abs=0.01)
    assert lines(svg, "span")[0] == pytest.approx((across(0.5), up(0.4), across(0.75), up(0.4)), abs=0.01)


def test_whiskers_are_wilson_s(svg: ElementTree.Element) -> None:
    low, high = wilson(0.4, 10)
    assert lines(svg, "whisker")[0] == pytest.approx((across(0.6), up(low), across(0.6), up(high)), abs=0.01)


def test_empty_bins_of_older_records_are_not_drawn(svg: ElementTree.Element) -> None:
    assert len(svg.findall("g")) == 2
    said = "confidence 50.0–75.0 %: 40.0 % of 10 right (16.8–68.7), 60.0 % promised"
    assert svg.findtext("g/title") == said
    assert ElementTree.fromstring(reliability_plot(BINS[:1], "title")).findall("g") == []


def test_neighbours_that_would_hide_each_other_are_one_dot() -> None:
    near = [
        ReliabilityBin(lower=0.7, upper=0.95, n=10, confidence=0.8, accuracy=0.7),
        ReliabilityBin(lower=0.95, upper=0.99, n=30, confidence=0.97, accuracy=0.9),
        ReliabilityBin(lower=0.99, upper=1.0, n=10, confidence=0.99, accuracy=1.0),
    ]
    first, second = shown_bins(near)
    assert first == near[0]
    # (30 * 0.97 + 10 * 0.99) / 40 and (30 * 0.9 + 10 * 1) / 40.
    assert (second.lower, second.upper, second.n) == (0.95, 1.0, 40)
    assert (second.confidence, second.accuracy) == pytest.approx((0.975, 0.925))


def test_in_words() -> None:
    assert in_words(BINS) == "2 dots, each of 10 to 40 items"
    assert in_words(BINS[1:2]) == "1 dot of 10 items"
    assert in_words(BINS[:1]) == "no items"
