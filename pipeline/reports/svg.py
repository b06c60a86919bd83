"""What drawings share: escaped elements, scales and the ticks on them. Colours come from the page's style.

Coordinates are SVG's own: x to the right, y downwards.
"""

import html
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, floor, log10

from deponij.pipeline.reports.wording import number
from deponij.store.texts import one_line

_STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values in [low, high] to coordinates between `start` and `stop`; logarithmic on demand.

    A single value lies in the middle.
    """

    low: float
    high: float
    start: float
    stop: float
    is_log: bool = False

    def at(self, value: float) -> float:
        """The coordinate of a value; past the ends it goes on."""
        low, high, here = self.low, self.high, value
        if self.is_log:
            low, high, here = log10(low), log10(high), log10(here)
        share = 0.5 if high == low else (here - low) / (high - low)
        return self.start + share * (self.stop - self.start)


def escaped(content: str) -> str:
    """A text, names within it on one line, as markup."""
    return html.escape(one_line(content))


def element(name: str, content: str = "", **attributes: str | float) -> str:
    """An element with escaped attributes; of names the trailing underscore falls and others become hyphens.

    Args:
        content: markup that stands within as it is.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(_text(value))}"' for key, value in attributes.items()
    )
    return f"<{name}{given}>{content}</{name}>" if content else f"<{name}{given}/>"


def text(content: str, told: str = "", **attributes: str | float) -> str:
    """A text element; `told` is its tooltip."""
    tooltip = element("title", escaped(told)) if told else ""
    return element("text", tooltip + escaped(content), **attributes)


def told(content: str, tooltip: str) -> str:
    """A group with a tooltip."""
    return element("g", element("title", escaped(tooltip)) + content)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def polyline(points: Iterable[tuple[float, float]], class_: str) -> str:
    """An open line through points."""
    return element("path", d=path(points), class_=class_)


def path(points: Iterable[tuple[float, float]]) -> str:
    """Straight pieces through points, as path data."""
    return "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)


def drawing(parts: Iterable[str], label: str, width_px: int, height_px: int, class_: str) -> str:
    """An SVG of these parts that scales down with its box."""
    return element(
        "svg",
        "".join(parts),
        class_=f"drawing {class_}",
        role="img",
        aria_label=label,
        width=width_px,
        height=height_px,
        viewBox=f"0 0 {width_px} {height_px}",
    )


def percent_grid(ticks: Iterable[float], up: Scale, left: float, right: float) -> list[str]:
    """A level line for each share, with its percentage to the left."""
    return [
        part
        for tick in ticks
        for part in (
            line(left, up.at(tick), right, up.at(tick), "grid"),
            text(f"{100 * tick:g}", x=left - 6, y=up.at(tick) + 4, text_anchor="end", class_="tick"),
        )
    ]


def axis_names(across: str, up: str, middle: tuple[float, float], height_px: float) -> list[str]:
    """Names of both axes: at the bottom, and turned at the left edge; `middle` is that of the plot."""
    x, y = middle
    turned = f"translate(12 {number(y)}) rotate(-90)"
    return [
        text(across, x=x, y=height_px - 6, text_anchor="middle", class_="axis"),
        text(up, transform=turned, text_anchor="middle", class_="axis"),
    ]


def linear_ticks(low: float, high: float, n_about: int = 5) -> list[float]:
    """Round numbers within [low, high], about so many."""
    if high <= low:
        return [low]
    step = _round_step((high - low) / n_about)
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within [low, high] > 0; over many decades the powers alone."""
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    factors = (1,) if high / low > 10**4 else (1, 2, 5)
    return [
        factor * 10.0**decade
        for decade in decades
        for factor in factors
        if low <= factor * 10.0**decade <= high
    ]


def _round_step(rough: float) -> float:
    power = 10.0 ** floor(log10(rough))
    return next(step for step in _STEPS if step * power >= rough * (1 - 1e-9)) * power


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else number(value)
