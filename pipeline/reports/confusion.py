"""Confusion matrices as inline SVG, readable for 2 to 60 classes, and the pairs that are confused most.

Colours come from the page's style sheet (`.hit`, `.miss`, `.ink`), so that light and dark both work.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.metrics.classification import Names, confusion_matrix
from deponij.pipeline.reports.svg import element, text, told
from deponij.store.texts import one_line

# (up to how many classes, cell side, font size), in px.
_SIZES = ((8, 44, 12.0), (14, 32, 11.5), (24, 22, 11.0), (40, 16, 10.5), (10**9, 12, 9.5))
_COUNTS_UP_TO = 24
_LABEL_CHARS, _END_CHARS = 26, 10
_FITS_UP_TO = 14
# Where a cell is this full its count is drawn in the page's background colour.
_FULL = 0.6


@dataclass(frozen=True, slots=True)
class Confused:
    """One kind of error: how many of a class's items got this other answer."""

    truth: str
    answer: str
    n: int
    n_truth: int


def most_confused(truth: Names, predicted: Names, n_pairs: int) -> list[Confused]:
    """The most frequent errors, ties in order of names."""
    support = Counter(truth.tolist())
    errors = Counter((t, p) for t, p in zip(truth.tolist(), predicted.tolist(), strict=True) if t != p)
    ranked = sorted(errors.items(), key=lambda pair: (-pair[1], pair[0]))
    return [Confused(t, p, n, support[t]) for (t, p), n in ranked[:n_pairs]]


def confusion_svg(truth: Names, predicted: Names, title: str) -> str:
    """An SVG of counts, rows are truths and columns answers, both by falling frequency of the truth.

    A cell's strength is its share of the row. Classes that neither occur nor are answered are left out.
    """
    support = Counter(truth.tolist())
    names = sorted(set(truth.tolist()) | set(predicted.tolist()), key=lambda name: (-support[name], name))
    matrix = confusion_matrix(truth, predicted, names)
    cell, font = next((cell, font) for limit, cell, font in _SIZES if len(names) <= limit)
    margin = round(14 + 0.56 * font * max(len(_short(name)) for name in names))
    top = round(24 + 0.46 * font * max(len(_short(name)) for name in names))
    side = len(names) * cell
    # Slanted column names lean out to the right of the last column.
    width, height = margin + side + round(0.75 * top), top + side + 6
    # Few classes fit a phone when scaled; many are scrolled.
    kind = "confusion fits" if len(names) <= _FITS_UP_TO else "confusion"
    parts = [
        element("rect", class_="plate", x=margin, y=top, width=side, height=side),
        *_labels(names, cell, margin, top),
        *_grid(len(names), cell, margin, top),
        *_cells(matrix, names, cell, margin, top),
    ]
    return element(
        "svg",
        "".join(parts),
        class_=kind,
        role="img",
        aria_label=title,
        width=width,
        height=height,
        viewBox=f"0 0 {width} {height}",
        font_size=font,
    )


def _labels(names: list[str], cell: int, margin: int, top: int) -> list[str]:
    parts = []
    for i, name in enumerate(names):
        middle = i * cell + cell / 2
        row = {"text_anchor": "end", "x": margin - 6, "y": top + middle, "dy": ".35em"}
        column = {"transform": f"translate({margin + middle:g} {top - 6}) rotate(-52)", "dy": ".3em"}
        parts += [text(_short(name), name, class_="ink", **place) for place in (row, column)]
    return parts


def _grid(n: int, cell: int, margin: int, top: int) -> list[str]:
    side = n * cell
    lines = [f"M{margin} {top + i}h{side}M{margin + i} {top}v{side}" for i in range(0, side + 1, cell)]
    return [element("path", class_="rule", d="".join(lines))]


def _cells(matrix: NDArray[np.int64], names: list[str], cell: int, margin: int, top: int) -> list[str]:
    parts = []
    totals = matrix.sum(axis=1)
    for row, column in np.argwhere(matrix > 0).tolist():
        count = int(matrix[row, column])
        share = count / int(totals[row])
        x, y = margin + column * cell, top + row * cell
        # A single error in a large class must still be seen.
        strength = f"{0.12 + 0.88 * share:.2f}"
        kind = "hit" if row == column else "miss"
        shape = element("rect", class_=kind, x=x, y=y, width=cell, height=cell, fill_opacity=strength)
        if len(names) <= _COUNTS_UP_TO:
            tone, half = "paper" if share > _FULL else "ink", cell / 2
            shape += text(f"{count}", class_=tone, text_anchor="middle", x=x + half, y=y + half, dy=".35em")
        parts.append(told(shape, f"{names[row]} answered as {names[column]}: {count} of {totals[row]}"))
    return parts


def _short(name: str) -> str:
    """Beginning and end of a long name, for names that begin alike often end differently."""
    name = one_line(name)
    if len(name) <= _LABEL_CHARS:
        return name
    return f"{name[: _LABEL_CHARS - _END_CHARS - 1].rstrip()}…{name[-_END_CHARS:].lstrip()}"
