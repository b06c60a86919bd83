"""How alike the vectors of classes are: a square of cosines as inline SVG, readable for 2 to 60 classes.

Colours come from the page's style sheet, so that light and dark both work; the numbers stand in the cells.
"""

from collections.abc import Sequence

import numpy as np

from deponij.pipeline.reports.svg import drawing, element, text, told
from deponij.pipeline.reports.wording import clipped

# (up to how many classes, cell side in px, font size); with cells below some 22 px there is no room for numbers.
_SIZES = ((12, 44, 12.0), (24, 34, 10.5), (40, 16, 10.0), (10**9, 12, 9.0))
_NUMBERS_UP_TO = 24
_FITS_UP_TO = 14
_LABEL_CHARS = 22
# How strong the palest and the fullest cell are: on any, ink has a contrast of 4.5 in light and dark (WCAG 2.2, 1.4.3).
_PALE, _FULL = 0.04, 0.48


def similarity_svg(cosines: Sequence[Sequence[float]], names: Sequence[str], label: str) -> str:
    """An SVG of cosines [C, C] between class vectors, in the order of the classes.

    A cell is the fuller the higher its cosine, from the lowest to the highest of two different classes.
    """
    values = np.asarray(cosines, np.float64)
    n = len(names)
    apart = values[~np.eye(n, dtype=bool)]
    low, high = (float(apart.min()), float(apart.max())) if len(apart) else (0.0, 1.0)
    cell, font = next((cell, font) for limit, cell, font in _SIZES if n <= limit)
    longest = max(len(clipped(name, _LABEL_CHARS)) for name in names)
    margin, top = round(14 + 0.58 * font * longest), round(24 + 0.46 * font * longest)
    parts = []
    for row in range(n):
        parts += _labels(names[row], row, cell, margin, top)
        for column in range(n):
            value = float(values[row, column])
            share = 1.0 if row == column else (value - low) / (high - low) if high > low else 0.5
            place = (margin + column * cell, top + row * cell)
            said = f"{names[row]} and {names[column]}: {value:.3f}"
            parts.append(told(_cell(value, share, place, cell, n <= _NUMBERS_UP_TO, row == column), said))
    width, height = margin + n * cell + round(0.75 * top), top + n * cell + 6
    kind = "similarity fits" if n <= _FITS_UP_TO else "similarity"
    # Of many classes it keeps its size and is scrolled, so that its letters stay readable.
    return drawing([element("g", "".join(parts), font_size=font)], label, width, height, kind)


def _labels(name: str, place: int, cell: int, margin: int, top: int) -> list[str]:
    shown, middle = clipped(name, _LABEL_CHARS), place * cell + cell / 2
    row = {"text_anchor": "end", "x": margin - 6, "y": top + middle, "dy": ".35em"}
    column = {"transform": f"translate({margin + middle:g} {top - 6}) rotate(-52)", "dy": ".3em"}
    return [text(shown, name, **at) for at in (row, column)]


def _cell(
    value: float, share: float, place: tuple[float, float], cell: int, with_number: bool, is_self: bool
) -> str:
    x, y = place
    kind = "self" if is_self else "pair"
    strength = f"{_PALE + (_FULL - _PALE) * share:.2f}"
    shape = element("rect", class_=kind, x=x, y=y, width=cell, height=cell, fill_opacity=strength)
    if with_number and not is_self:
        number = f"{value:.2f}".replace("0.", ".", 1).replace("-", "−")
        shape += text(number, text_anchor="middle", x=x + cell / 2, y=y + cell / 2, dy=".35em")
    return shape
