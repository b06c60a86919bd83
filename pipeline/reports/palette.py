"""Colours and shapes that tell classes and backbones apart, for eyes that confuse colours too.

Colours are named `q0` … `q6` here; the page's style says which they are in light and in dark. They
follow the "bright" scheme of P. Tol, "Colour Schemes" (SRON technical note, 2021), darker on paper.
Seven colours and eight shapes have no common divisor, so that 56 classes in a row are all different.
"""

from collections.abc import Callable

from deponij.pipeline.reports.wording import number

N_COLOURS = 7
Marker = Callable[[float], str]


def _circle(r: float) -> str:
    return f"m{_n(-r)} 0a{_n(r)} {_n(r)} 0 1 0 {_n(2 * r)} 0a{_n(r)} {_n(r)} 0 1 0 {_n(-2 * r)} 0z"


def _square(r: float) -> str:
    s = 0.85 * r
    return f"m{_n(-s)} {_n(-s)}h{_n(2 * s)}v{_n(2 * s)}h{_n(-2 * s)}z"


def _up(r: float) -> str:
    return f"m0 {_n(-1.15 * r)}l{_n(1.1 * r)} {_n(1.95 * r)}h{_n(-2.2 * r)}z"


def _diamond(r: float) -> str:
    s = 1.2 * r
    return f"m0 {_n(-s)}l{_n(s)} {_n(s)}l{_n(-s)} {_n(s)}l{_n(-s)} {_n(-s)}z"


def _down(r: float) -> str:
    return f"m0 {_n(1.15 * r)}l{_n(1.1 * r)} {_n(-1.95 * r)}h{_n(-2.2 * r)}z"


def _plus(r: float) -> str:
    a, b = 0.4 * r, 0.75 * r
    right, left, down, up = f"h{_n(b)}", f"h{_n(-b)}", f"v{_n(b)}", f"v{_n(-b)}"
    wide, back, drop, rise = f"h{_n(2 * a)}", f"h{_n(-2 * a)}", f"v{_n(2 * a)}", f"v{_n(-2 * a)}"
    return f"m{_n(-a)} {_n(-a - b)}{wide}{down}{right}{drop}{left}{down}{back}{up}{left}{rise}{right}z"


def _bar(r: float) -> str:
    a, b = 0.45 * r, 1.25 * r
    return f"m{_n(-b)} {_n(-a)}h{_n(2 * b)}v{_n(2 * a)}h{_n(-2 * b)}z"


def _post(r: float) -> str:
    a, b = 0.45 * r, 1.25 * r
    return f"m{_n(-a)} {_n(-b)}h{_n(2 * a)}v{_n(2 * b)}h{_n(-2 * a)}z"


def _n(value: float) -> str:
    return number(round(value, 1))


# Path data relative to the middle, of a given radius.
MARKERS: tuple[Marker, ...] = (_circle, _square, _up, _diamond, _down, _plus, _bar, _post)


def colour_of(code: int) -> str:
    """Style class of a class's or line's colour."""
    return f"q{code % N_COLOURS}"


def marker_of(code: int) -> Marker:
    """Shape of a class."""
    return MARKERS[code % len(MARKERS)]
