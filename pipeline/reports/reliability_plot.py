"""Reliability: how often answers of each confidence are right, with the gap to what they promise.

Below it a histogram of the confidences. What is computed: `deponij.pipeline.metrics.calibration`.
"""

from collections.abc import Sequence

from deponij.pipeline.metrics.calibration import ReliabilityBin
from deponij.pipeline.reports.svg import (
    Scale,
    axis_names,
    drawing,
    element,
    line,
    percent_grid,
    polyline,
    text,
    told,
)
from deponij.pipeline.reports.wording import percent

WIDTH_PX, HEIGHT_PX = 300, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 36, 286, 8, 262
_COUNTS_TOP, _COUNTS_BOTTOM = 266, 296
_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def reliability_plot(bins: Sequence[ReliabilityBin], label: str) -> str:
    """An SVG: a bar's thick edge is the share of right answers; the gap lies between it and the mean confidence."""
    across, up = Scale(0, 1, _LEFT, _RIGHT), Scale(0, 1, _BOTTOM, _TOP)
    most = max((one.n for one in bins), default=0)
    parts = [*_axes(across, up)]
    for one in bins:
        parts += _bin(one, across, up, most)
    parts.append(polyline([(_LEFT, _BOTTOM), (_RIGHT, _TOP)], "level"))
    return drawing(parts, label, WIDTH_PX, HEIGHT_PX, "reliability")


def _axes(across: Scale, up: Scale) -> list[str]:
    parts = percent_grid(_TICKS, up, _LEFT, _RIGHT)
    for tick in _TICKS:
        x = across.at(tick)
        parts.append(text(f"{100 * tick:g}", x=x, y=_COUNTS_BOTTOM + 14, text_anchor="middle", class_="tick"))
    return parts + axis_names("confidence, %", "right answers, %", (across.at(0.5), up.at(0.5)), HEIGHT_PX)


def _bin(one: ReliabilityBin, across: Scale, up: Scale, most: int) -> list[str]:
    if one.accuracy is None or one.confidence is None:
        return []
    left, right = across.at(one.lower), across.at(one.upper)
    width = max(1.0, right - left - 1)
    counted = one.n / most * (_COUNTS_BOTTOM - _COUNTS_TOP)
    ends = sorted((up.at(one.accuracy), up.at(one.confidence)))
    shapes = [
        _bar(left, ends[1], width, _BOTTOM - ends[1], "bar"),
        _bar(left, ends[0], width, ends[1] - ends[0], "gap"),
        _bar(left, _COUNTS_TOP, width, counted, "count"),
        line(left, up.at(one.accuracy), left + width, up.at(one.accuracy), "edge"),
    ]
    said = (
        f"confidence {percent(one.lower)}–{percent(one.upper)} %: {percent(one.accuracy)} % of {one.n} right, "
        f"{percent(one.confidence)} % promised"
    )
    return [told("".join(shapes), said)]


def _bar(x: float, y: float, width: float, height: float, class_: str) -> str:
    return element("rect", x=x, y=y, width=width, height=height, class_=class_)
