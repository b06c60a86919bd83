"""Colours and shapes that tell classes and backbones apart, for eyes that confuse colours too.

They are defined once, in `templates/palette.json`, from which the report (here) and the server's page
(`services/serve/page/palette.js`) take them; so a class has the same mark in both. The n-th has colour n modulo
`N_COLOURS` and shape n modulo the number of shapes: these have no common divisor, so that 56 in a row are all different,
and who shares a colour with another within sixteen has a shape of quite another kind.

Colours are chosen by search, so that any two of them differ under simulated protanopia, deuteranopia and tritanopia
(Machado, Oliveira and Fernandes, IEEE TVCG 15, 2009), and have a contrast of 3 to paper (WCAG 2.2, 1.4.11).
"""

import json
import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from deponij.pipeline.reports.wording import number

Marker = Callable[[float], str]
PALETTE = Path(__file__).parent / "templates" / "palette.json"
_STEP = re.compile(r"([a-z])([^a-z]*)")
_NUMBER = re.compile(r"-?\d*\.?\d+")
# Of an arc these say how it turns, and are no lengths.
_FLAGS = {"a": (2, 3, 4)}


@cache
def _palette() -> dict[str, list[dict[str, Any]]]:
    colours: dict[str, list[dict[str, Any]]] = json.loads(PALETTE.read_text(encoding="utf-8"))
    return colours


def _marker(path: str) -> Marker:
    """Path data for any radius, from those of radius 1 in relative steps."""
    steps = [
        (letter, [float(one) for one in _NUMBER.findall(numbers)]) for letter, numbers in _STEP.findall(path)
    ]

    def marker(r: float) -> str:
        pieces = []
        for letter, numbers in steps:
            flags = _FLAGS.get(letter, ())
            sized = [one if i in flags else round(one * r, 1) for i, one in enumerate(numbers)]
            pieces.append(letter + " ".join(map(number, sized)))
        # A sign parts numbers as well as a space does.
        return "".join(pieces).replace(" -", "-")

    return marker


N_COLOURS = len(_palette()["colours"])
# Path data relative to the middle, of a given radius.
MARKERS: tuple[Marker, ...] = tuple(_marker(one["path"]) for one in _palette()["shapes"])


def colour_of(code: int) -> str:
    """Style class of a class's or line's colour."""
    return f"q{code % N_COLOURS}"


def marker_of(code: int) -> Marker:
    """Shape of a class."""
    return MARKERS[code % len(MARKERS)]


def class_codes(names: Iterable[str | None]) -> dict[str, int]:
    """The number by which a class has its mark: its place among all names in order, so that it depends on nothing else."""
    return {name: code for code, name in enumerate(sorted({name for name in names if name is not None}))}


def palette_css() -> str:
    """Style: variables `--c0` … for light and dark, and classes `.q0` … that have them as their colour."""
    colours = _palette()["colours"]

    def variables(ground: str) -> str:
        return " ".join(f"--c{i}: {one[ground]};" for i, one in enumerate(colours))

    classes = " ".join(f".q{i} {{ color: var(--c{i}); }}" for i in range(len(colours)))
    dark = f"@media (prefers-color-scheme: dark) {{ :root {{ {variables('dark')} }} }}"
    return f":root {{ {variables('light')} }}\n{dark}\n{classes}\n"


def palette_colours() -> list[tuple[int, int, int]]:
    """Red, green and blue of all, those for light before those for dark: for pictures, which are the same on both."""
    hexes = [one[ground][1:] for ground in ("light", "dark") for one in _palette()["colours"]]
    return [(int(one[:2], 16), int(one[2:4], 16), int(one[4:], 16)) for one in hexes]


def palette_json() -> dict[str, Any]:
    """For the server's page: `n_colours`, and `shapes` as path data of radius 1."""
    return {"n_colours": N_COLOURS, "shapes": [one["path"] for one in _palette()["shapes"]]}
