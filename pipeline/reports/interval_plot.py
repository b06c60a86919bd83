"""Dots with whiskers: one row a classifier, vertical lines for what needs no picture.

Horizontal places are percentages, so that the drawing takes its box's width and its letters keep their size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor

from deponij.pipeline.metrics.intervals import Interval
from deponij.pipeline.reports.svg import Scale, element, escaped, linear_ticks, text, told
from deponij.pipeline.reports.wording import clipped, interval, percent

_ROW_PX, _TOP_PX, _AXIS_PX, _LABEL_PX = 36, 6, 24, 17
# The axis begins and ends at multiples of this.
_GRAIN = 0.05
_NAME_CHARS = 44


@dataclass(frozen=True, slots=True)
class Whisker:
    """One row: a share with its interval; the chosen one stands out, one that is aside is pale."""

    name: str
    value: float
    interval: Interval | None
    is_chosen: bool = False
    is_aside: bool = False


@dataclass(frozen=True, slots=True)
class Level:
    """A vertical line at a share."""

    name: str
    value: float


def interval_plot(rows: Sequence[Whisker], levels: Sequence[Level], label: str) -> str:
    """An SVG as wide as its box; empty without rows."""
    if not rows:
        return ""
    scale = _scale(rows, levels)
    bottom = _TOP_PX + _ROW_PX * len(rows)
    height = bottom + _AXIS_PX + _LABEL_PX * len(levels)
    parts = [*_axis(scale, bottom), *_levels(scale, levels, bottom)]
    for i, row in enumerate(rows):
        parts.append(_row(scale, row, _TOP_PX + i * _ROW_PX))
    return element(
        "svg", "".join(parts), class_="whiskers", role="img", aria_label=label, width="100%", height=height
    )


def _scale(rows: Sequence[Whisker], levels: Sequence[Level]) -> Scale:
    """Percentages of the width, a little inside the edges so that no dot is cut."""
    values = [level.value for level in levels]
    for row in rows:
        values += [row.value, *(row.interval or ())]
    low = max(0.0, floor(min(values) / _GRAIN + 1e-9) * _GRAIN)
    high = min(1.0, ceil(max(values) / _GRAIN - 1e-9) * _GRAIN)
    return Scale(low, high, 1.5, 98.5)


def _axis(scale: Scale, bottom: int) -> list[str]:
    parts = []
    for tick in linear_ticks(scale.low, scale.high, 6):
        x = _place(scale, tick)
        parts.append(element("line", x1=x, x2=x, y1=_TOP_PX, y2=bottom, class_="grid"))
        anchor = "start" if scale.at(tick) < 5 else "end" if scale.at(tick) > 95 else "middle"
        # Beside what may stand there: the line of a level.
        aside = {"start": 4, "middle": 0, "end": -4}[anchor]
        parts.append(text(f"{100 * tick:g}", x=x, dx=aside, y=bottom + 16, text_anchor=anchor, class_="tick"))
    return parts


def _levels(scale: Scale, levels: Sequence[Level], bottom: int) -> list[str]:
    drawn, named = [], []
    for i, level in enumerate(levels):
        x = _place(scale, level.value)
        y = bottom + _AXIS_PX + _LABEL_PX * i + 10
        anchor, shift = ("start", 5) if scale.at(level.value) < 50 else ("end", -5)
        drawn.append(element("line", x1=x, x2=x, y1=_TOP_PX, y2=y + 3, class_="level"))
        name = clipped(f"{level.name} {percent(level.value)}", _NAME_CHARS)
        named.append(text(name, level.name, x=x, dx=shift, y=y, text_anchor=anchor, class_="tick"))
    # Names above all lines, which may run through them.
    return drawn + named


def _row(scale: Scale, row: Whisker, top: int) -> str:
    middle, value = top + 26, percent(row.value)
    kind = "best" if row.is_chosen else "aside" if row.is_aside else "other"
    parts = [
        # A box of the page's own, for SVG cannot shorten a name to the width there is.
        element("foreignObject", _label(row.name), x="0", y=top, width="84%", height=20),
        text(value, x="100%", y=top + 14, text_anchor="end", class_="value"),
        element("line", x1="0", x2="100%", y1=middle, y2=middle, class_="rule"),
    ]
    if row.interval:
        low, high = (_place(scale, bound) for bound in row.interval)
        parts.append(element("line", x1=low, x2=high, y1=middle, y2=middle, class_="whisker"))
        parts += [
            element("line", x1=x, x2=x, y1=middle - 4, y2=middle + 4, class_="whisker") for x in (low, high)
        ]
    parts.append(element("circle", cx=_place(scale, row.value), cy=middle, r=5, class_="dot"))
    said = f"{row.name}: {value} % {interval(row.interval)}"
    return told(element("g", "".join(parts), class_=kind), said)


def _label(name: str) -> str:
    return element("div", escaped(name), class_="label", dir="auto")


def _place(scale: Scale, value: float) -> str:
    return f"{scale.at(value):.2f}%"
