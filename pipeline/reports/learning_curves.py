"""Learning curves as SVG: accuracy against labelled items, one line a backbone, all charts of a page on the same axes.

Behind the last point of a line a dashed one leads to what twice the pictures would bring, with its band. Computing all
that: `pipeline.curves` and `pipeline.forecast`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from deponij.pipeline.metrics.curves import CurveRow
from deponij.pipeline.reports.palette import colour_of, marker_of
from deponij.pipeline.reports.svg import (
    Scale,
    axis_names,
    drawing,
    element,
    line,
    linear_ticks,
    log_ticks,
    path,
    percent_grid,
    polyline,
    text,
    told,
)
from deponij.pipeline.reports.wording import interval, number, percent

WIDTH_PX, HEIGHT_PX = 420, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 410, 12, 250
_MARKER_PX, _END_PX = 5, 4
# Bands of several lines stand side by side.
_ASIDE_PX = 7


@dataclass(frozen=True, slots=True)
class Axes:
    """Labelled items across, shares up."""

    across: Scale
    up: Scale


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves that may be compared: backbone by backbone, each by rising number of labelled items."""

    axes: Axes
    labels: str
    split: str
    head: str
    lines: tuple[tuple[str, tuple[CurveRow, ...]], ...]

    @property
    def keys(self) -> list[tuple[str, str]]:
        """The mark of each line, as an SVG, and its backbone."""
        return [(_key(i), name) for i, (name, _) in enumerate(self.lines)]

    @property
    def points(self) -> list[CurveRow]:
        """All points."""
        return [point for _, points in self.lines for point in points]

    @property
    def twice(self) -> list[tuple[str, str]]:
        """Each backbone, and in a sentence what twice the pictures would bring."""
        return [(name, points[-1].twice_as_many) for name, points in self.lines if points[-1].twice_as_many]


def charts(points: Sequence[CurveRow]) -> list[Chart]:
    """One chart for each split, label set and head, in the order in which they first occur."""
    drawn: list[Chart] = []
    if not points:
        return drawn
    axes = _axes_of(points)
    for labels, split, head in dict.fromkeys((point.labels, point.split, point.head) for point in points):
        members = [p for p in points if (p.labels, p.split, p.head) == (labels, split, head)]
        lines = [
            (name, tuple(sorted((p for p in members if p.backbone == name), key=lambda point: point.n_train)))
            for name in dict.fromkeys(point.backbone for point in members)
        ]
        drawn.append(Chart(axes, labels, split, head, tuple(lines)))
    return drawn


def chart_svg(chart: Chart, label: str) -> str:
    """An SVG with a logarithmic axis of labelled items; lines take the palette's colours in order."""
    across, up = chart.axes.across, chart.axes.up
    parts = [*_axes(across, up)]
    for i, (_, points) in enumerate(chart.lines):
        parts.append(_band(points, across, up, i))
    for i, (_, points) in enumerate(chart.lines):
        parts += _twice(points[-1], chart.axes, i, (i - (len(chart.lines) - 1) / 2) * _ASIDE_PX)
        parts += _line(points, across, up, i)
    return drawing(parts, label, WIDTH_PX, HEIGHT_PX, "curves")


def _axes_of(points: Sequence[CurveRow]) -> Axes:
    counts = [point.n_train for point in points]
    bounds = [bound for point in points for bound in (*(point.top1_interval or ()), point.top1)]
    for twice in (point.twice for point in points):
        if twice is not None and twice.band is not None:
            counts.append(twice.n_train)
            bounds += twice.band
    low, high = max(0.0, min(bounds) - 0.02), min(1.0, max(bounds) + 0.02)
    return Axes(
        Scale(min(counts), max(counts), _LEFT + 8, _RIGHT - 12, is_log=True), Scale(low, high, _BOTTOM, _TOP)
    )


def _axes(across: Scale, up: Scale) -> list[str]:
    parts = percent_grid(linear_ticks(up.low, up.high), up, _LEFT, _RIGHT)
    last = -1e9
    for tick in log_ticks(across.low, across.high) or [across.low]:
        x = across.at(tick)
        parts.append(line(x, _BOTTOM, x, _BOTTOM + 5, "tickmark"))
        # Numbers must not run into each other.
        if x - last >= 34:
            parts.append(text(f"{tick:,.0f}", x=x, y=_BOTTOM + 19, text_anchor="middle", class_="tick"))
            last = x
    parts.append(line(_LEFT, _BOTTOM, _RIGHT, _BOTTOM, "base"))
    middle = (_LEFT + _RIGHT) / 2, (_TOP + _BOTTOM) / 2
    return parts + axis_names("labelled items (logarithmic)", "top-1, %", middle, HEIGHT_PX)


def _band(points: Sequence[CurveRow], across: Scale, up: Scale, number_of_line: int) -> str:
    known = [(across.at(point.n_train), point.top1_interval) for point in points if point.top1_interval]
    if not known:
        return ""
    low, high = ([(x, up.at(bounds[side])) for x, bounds in known] for side in (0, 1))
    return element("path", d=path([*low, *reversed(high)]) + "Z", class_=f"band {colour_of(number_of_line)}")


def _twice(last: CurveRow, axes: Axes, number_of_line: int, aside_px: float) -> list[str]:
    """From the last point on to what twice the pictures would bring; nothing where that cannot be told."""
    twice, colour = last.twice, colour_of(number_of_line)
    if twice is None or twice.top1 is None or twice.band is None:
        return []
    x, y = axes.across.at(twice.n_train) + aside_px, axes.up.at(twice.top1)
    low, high = (axes.up.at(bound) for bound in twice.band)
    start = axes.across.at(last.n_train), axes.up.at(last.top1)
    shapes = [
        polyline([start, (x, y)], f"line ahead {colour}"),
        polyline([(x, low), (x, high)], f"line {colour}"),
        *(polyline([(x - _END_PX, end), (x + _END_PX, end)], f"line {colour}") for end in (low, high)),
        _mark(x, y, number_of_line),
    ]
    return [told("".join(shapes), f"{last.backbone}: {last.twice_as_many}")]


def _key(number_of_line: int) -> str:
    marker = marker_of(number_of_line)(_MARKER_PX)
    shape = element("path", d="M14 8" + marker, class_=f"mark {colour_of(number_of_line)}")
    stroke = element("path", d="M0 8H28", class_=f"line {colour_of(number_of_line)}")
    return element(
        "svg", stroke + shape, class_="key", viewBox="0 0 28 16", width=28, height=16, aria_hidden="true"
    )


def _line(points: Sequence[CurveRow], across: Scale, up: Scale, number_of_line: int) -> list[str]:
    places = [(across.at(point.n_train), up.at(point.top1)) for point in points]
    parts = [polyline(places, f"line {colour_of(number_of_line)}")]
    for point, (x, y) in zip(points, places, strict=True):
        parts.append(told(_mark(x, y, number_of_line), describe(point)))
    return parts


def _mark(x: float, y: float, number_of_line: int) -> str:
    place = f"M{number(x)} {number(y)}{marker_of(number_of_line)(_MARKER_PX)}"
    return element("path", d=place, class_=f"mark {colour_of(number_of_line)}")


def describe(point: CurveRow) -> str:
    """A point in words."""
    amount = "all labels" if point.per_class is None else f"{point.per_class} a class"
    spread = "" if point.top1_std is None else f" ± {percent(point.top1_std)}"
    return (
        f"{point.backbone}, {amount} (n = {point.n_train:,}): {percent(point.top1)}{spread} % "
        f"{interval(point.top1_interval)}"
    )
