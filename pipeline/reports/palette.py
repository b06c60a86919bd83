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


def _polygon(*steps: tuple[float, float]) -> Marker:
    """A closed outline by its steps from corner to corner, in radii; the first one begins at the middle."""

    def marker(r: float) -> str:
        (x, y), *others = [(_n(dx * r), _n(dy * r)) for dx, dy in steps]
        pieces = [f"h{dx}" if dy == "0" else f"v{dy}" if dx == "0" else f"l{dx} {dy}" for dx, dy in others]
        return f"m{x} {y}{''.join(pieces)}z"

    return marker


def _n(value: float) -> str:
    return number(round(value, 1))


# Path data relative to the middle, of a given radius.
MARKERS: tuple[Marker, ...] = (
    _circle,
    _polygon((-0.85, -0.85), (1.7, 0), (0, 1.7), (-1.7, 0)),  # square
    _polygon((0, -1.15), (1.1, 1.95), (-2.2, 0)),  # triangle
    _polygon((0, -1.2), (1.2, 1.2), (-1.2, 1.2), (-1.2, -1.2)),  # diamond
    _polygon((0, 1.15), (1.1, -1.95), (-2.2, 0)),  # triangle, its point down
    _polygon(
        *((-0.4, -1.15), (0.8, 0), (0, 0.75), (0.75, 0), (0, 0.8), (-0.75, 0)),
        *((0, 0.75), (-0.8, 0), (0, -0.75), (-0.75, 0), (0, -0.8), (0.75, 0)),
    ),  # plus
    _polygon((-1.25, -0.45), (2.5, 0), (0, 0.9), (-2.5, 0)),  # bar
    _polygon((-0.45, -1.25), (0.9, 0), (0, 2.5), (-0.9, 0)),  # post
)


def colour_of(code: int) -> str:
    """Style class of a class's or line's colour."""
    return f"q{code % N_COLOURS}"


def marker_of(code: int) -> Marker:
    """Shape of a class."""
    return MARKERS[code % len(MARKERS)]
