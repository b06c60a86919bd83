"""Learning curves as SVG: accuracy against labelled items, one line a backbone. Computing them: `pipeline.curves`."""

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

WIDTH_PX, HEIGHT_PX = 480, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 468, 12, 270
_MARKER_PX = 5


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves that may be compared: backbone by backbone, each by rising number of labelled items."""

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


def charts(points: Sequence[CurveRow]) -> list[Chart]:
    """One chart for each split, label set and head, in the order in which they first occur."""
    found = []
    for labels, split, head in dict.fromkeys((point.labels, point.split, point.head) for point in points):
        members = [p for p in points if (p.labels, p.split, p.head) == (labels, split, head)]
        lines = [
            (name, tuple(sorted((p for p in members if p.backbone == name), key=lambda point: point.n_train)))
            for name in dict.fromkeys(point.backbone for point in members)
        ]
        found.append(Chart(labels, split, head, tuple(lines)))
    return found


def chart_svg(chart: Chart, label: str) -> str:
    """An SVG with a logarithmic axis of labelled items; lines take the palette's colours in order."""
    across, up = _scales(chart.points)
    parts = [*_axes(across, up)]
    for i, (_, points) in enumerate(chart.lines):
        parts.append(_band(points, across, up, i))
    for i, (_, points) in enumerate(chart.lines):
        parts += _line(points, across, up, i)
    return drawing(parts, label, WIDTH_PX, HEIGHT_PX, "curves")


def _scales(points: Sequence[CurveRow]) -> tuple[Scale, Scale]:
    counts = [point.n_train for point in points]
    bounds = [bound for point in points for bound in (*(point.top1_interval or ()), point.top1)]
    low, high = max(0.0, min(bounds) - 0.02), min(1.0, max(bounds) + 0.02)
    across = Scale(min(counts), max(counts), _LEFT + 8, _RIGHT - 8, is_log=True)
    return across, Scale(low, high, _BOTTOM, _TOP)


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


def _key(number_of_line: int) -> str:
    marker = marker_of(number_of_line)(_MARKER_PX)
    shape = element("path", d="M14 8" + marker, class_=f"mark {colour_of(number_of_line)}")
    stroke = element("path", d="M0 8H28", class_=f"line {colour_of(number_of_line)}")
    return element(
        "svg", stroke + shape, class_="key", viewBox="0 0 28 16", width=28, height=16, aria_hidden="true"
    )


def _line(points: Sequence[CurveRow], across: Scale, up: Scale, number_of_line: int) -> list[str]:
    colour, marker = colour_of(number_of_line), marker_of(number_of_line)
    places = [(across.at(point.n_train), up.at(point.top1)) for point in points]
    parts = [polyline(places, f"line {colour}")]
    for point, (x, y) in zip(points, places, strict=True):
        shape = element("path", d=f"M{number(x)} {number(y)}{marker(_MARKER_PX)}", class_=f"mark {colour}")
        parts.append(told(shape, describe(point)))
    return parts


def describe(point: CurveRow) -> str:
    """A point in words."""
    amount = "all labels" if point.per_class is None else f"{point.per_class} a class"
    spread = "" if point.top1_std is None else f" ± {percent(point.top1_std)}"
    return (
        f"{point.backbone}, {amount} (n = {point.n_train:,}): {percent(point.top1)}{spread} % "
        f"{interval(point.top1_interval)}"
    )
