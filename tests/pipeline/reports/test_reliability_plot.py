"""Reliability: bars, gaps and counts of known bins."""

from xml.etree import ElementTree

import pytest

from deponij.pipeline.metrics.calibration import ReliabilityBin
from deponij.pipeline.reports.reliability_plot import reliability_plot

BINS = [
    ReliabilityBin(lower=0.0, upper=0.5, n=0, confidence=None, accuracy=None),
    # Promises 60 %, holds 40 %; then the other way round.
    ReliabilityBin(lower=0.5, upper=0.75, n=10, confidence=0.6, accuracy=0.4),
    ReliabilityBin(lower=0.75, upper=1.0, n=40, confidence=0.8, accuracy=1.0),
]
# The square of the plot goes from 36 to 286 and from 262 up to 8.
LEFT, RIGHT, TOP, BOTTOM = 36, 286, 8, 262


@pytest.fixture
def svg() -> ElementTree.Element:
    return ElementTree.fromstring(reliability_plot(BINS, "title"))


def boxes(svg: ElementTree.Element, kind: str) -> list[tuple[float, float, float]]:
    """x, top and height."""
    found = [rect for rect in svg.iter("rect") if rect.get("class") == kind]
    return [(float(r.get("x")), float(r.get("y")), float(r.get("height"))) for r in found]


def up(share: float) -> float:
    return BOTTOM - share * (BOTTOM - TOP)


def test_bars_reach_what_both_have_and_gaps_the_rest(svg: ElementTree.Element) -> None:
    bars, gaps = boxes(svg, "bar"), boxes(svg, "gap")
    assert [x for x, _, _ in bars] == [LEFT + 0.5 * (RIGHT - LEFT), LEFT + 0.75 * (RIGHT - LEFT)]
    assert [top for _, top, _ in bars] == pytest.approx([up(0.4), up(0.8)], abs=0.01)
    assert [top for _, top, _ in gaps] == pytest.approx([up(0.6), up(1.0)], abs=0.01)
    assert [height for _, _, height in gaps] == pytest.approx([0.2 * (BOTTOM - TOP)] * 2, abs=0.01)


def test_the_thick_edge_is_the_accuracy(svg: ElementTree.Element) -> None:
    edges = [float(line.get("y1")) for line in svg.iter("line") if line.get("class") == "edge"]
    assert edges == pytest.approx([up(0.4), up(1.0)], abs=0.01)


def test_counts_are_in_proportion(svg: ElementTree.Element) -> None:
    few, many = (height for _, _, height in boxes(svg, "count"))
    assert many == 4 * few


def test_empty_bins_are_not_drawn(svg: ElementTree.Element) -> None:
    assert len(svg.findall("g")) == 2
    assert svg.findtext("g/title") == "confidence 50.0–75.0 %: 40.0 % of 10 right, 60.0 % promised"


def test_no_items_at_all() -> None:
    assert ElementTree.fromstring(reliability_plot(BINS[:1], "title")).findall("g") == []
