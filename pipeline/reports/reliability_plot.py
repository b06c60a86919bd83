"""Reliability: how often answers of each confidence are right, held against what they promise.

Each dot stands for about as many items, or for more where dots would hide each other. What is computed:
`deponij.pipeline.metrics.calibration`.
"""

from collections.abc import Sequence

from deponij.pipeline.metrics.calibration import ReliabilityBin
from deponij.pipeline.metrics.intervals import wilson
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

WIDTH_PX, HEIGHT_PX = 300, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 286, 8, 254
_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_DOT_PX, _END_PX = 4.5, 3
# Dots that are nearer than this across are one.
_APART = 0.025


def reliability_plot(bins: Sequence[ReliabilityBin], label: str) -> str:
    """An SVG: a dot at mean confidence and share of right answers, its 95 % interval, and the gap to the diagonal."""
    across, up = Scale(0, 1, _LEFT, _RIGHT), Scale(0, 1, _BOTTOM, _TOP)
    parts = [*_axes(across, up), polyline([(_LEFT, _BOTTOM), (_RIGHT, _TOP)], "level")]
    for one in shown_bins(bins):
        parts += _bin(one, across, up)
    return drawing(parts, label, WIDTH_PX, HEIGHT_PX, "reliability")


def _axes(across: Scale, up: Scale) -> list[str]:
    parts = percent_grid(_TICKS, up, _LEFT, _RIGHT)
    for tick in _TICKS:
        x = across.at(tick)
        parts.append(text(f"{100 * tick:g}", x=x, y=_BOTTOM + 17, text_anchor="middle", class_="tick"))
    return parts + axis_names("confidence, %", "right answers, %", (across.at(0.5), up.at(0.5)), HEIGHT_PX)


def _bin(one: ReliabilityBin, across: Scale, up: Scale) -> list[str]:
    if one.accuracy is None or one.confidence is None:
        return []
    x, y = across.at(one.confidence), up.at(one.accuracy)
    bounds = wilson(one.accuracy, one.n)
    low, high = (up.at(bound) for bound in bounds)
    shapes = [
        line(x, y, x, up.at(one.confidence), "gap"),
        line(across.at(one.lower), y, across.at(one.upper), y, "span"),
        line(x, low, x, high, "whisker"),
        *(line(x - _END_PX, end, x + _END_PX, end, "whisker") for end in (low, high)),
        element("circle", cx=x, cy=y, r=_DOT_PX, class_="dot"),
    ]
    said = (
        f"confidence {percent(one.lower)}–{percent(one.upper)} %: {percent(one.accuracy)} % of {one.n} right "
        f"({percent(bounds[0])}–{percent(bounds[1])}), {percent(one.confidence)} % promised"
    )
    return [told("".join(shapes), said)]


def shown_bins(bins: Sequence[ReliabilityBin]) -> list[ReliabilityBin]:
    """Those that hold items, in ascending order; neighbours of nearly the same confidence as one."""
    shown: list[ReliabilityBin] = []
    for one in bins:
        if one.confidence is None:
            continue
        if shown and one.confidence - (shown[-1].confidence or 0.0) < _APART:
            shown[-1] = _both(shown[-1], one)
        else:
            shown.append(one)
    return shown


def _both(low: ReliabilityBin, high: ReliabilityBin) -> ReliabilityBin:
    n = low.n + high.n

    def mean(a: float | None, b: float | None) -> float:
        return (low.n * (a or 0.0) + high.n * (b or 0.0)) / n

    return ReliabilityBin(
        lower=low.lower,
        upper=high.upper,
        n=n,
        confidence=mean(low.confidence, high.confidence),
        accuracy=mean(low.accuracy, high.accuracy),
    )


def in_words(bins: Sequence[ReliabilityBin]) -> str:
    """What the dots stand for: `3 dots, each of 12 items`."""
    counts = [one.n for one in shown_bins(bins)]
    if not counts:
        return "no items"
    each = f"{min(counts):,} to {max(counts):,}" if min(counts) != max(counts) else f"{counts[0]:,}"
    return f"{len(counts)} dots, each of {each} items" if len(counts) > 1 else f"1 dot of {each} items"
