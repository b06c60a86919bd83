"""The palette: what it promises to eyes that confuse colours, and shapes that scale. Expected values by the formulas."""

import itertools
import json
import re

import numpy as np
import pytest

from deponij.pipeline.reports.palette import (
    MARKERS,
    N_COLOURS,
    PALETTE,
    class_codes,
    colour_of,
    marker_of,
    palette_css,
    palette_json,
)

DEFINED = json.loads(PALETTE.read_text(encoding="utf-8"))
# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
SIGHTS = {
    "usual": np.eye(3),
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
# sRGB (D65) to XYZ.
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(light: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB; distances in it are Delta E of 1976, of which 2.3 are just noticeable."""
    x = TO_XYZ @ np.clip(light, 0, 1) / [0.95047, 1, 1.08883]
    f = np.where(x > 216 / 24389, np.cbrt(x), (24389 / 27 * x + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(a: str, b: str) -> float:
    """WCAG 2.2."""
    lights = sorted(float(TO_XYZ[1] @ linear(one)) for one in (a, b))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


@pytest.mark.parametrize("ground", ["light", "dark"])
@pytest.mark.parametrize("sight", SIGHTS)
def test_any_two_colours_are_told_apart(ground: str, sight: str) -> None:
    seen = [lab(np.array(SIGHTS[sight]) @ linear(one[ground])) for one in DEFINED["colours"]]
    least = min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2))
    # The seven before were 6 apart for deuteranopes.
    assert least > 20


@pytest.mark.parametrize(
    ("ground", "papers"), [("light", ["#ffffff", "#fbfaf7"]), ("dark", ["#1e2226", "#16191c"])]
)
def test_marks_stand_out_from_paper(ground: str, papers: list[str]) -> None:
    assert min(contrast(one[ground], paper) for one in DEFINED["colours"] for paper in papers) >= 2.95


def test_no_colour_is_the_grey_of_what_has_no_class() -> None:
    for ground, grey in (("light", "#636a71"), ("dark", "#a0a8af")):
        assert (
            min(np.linalg.norm(lab(linear(one[ground])) - lab(linear(grey))) for one in DEFINED["colours"])
            > 20
        )


def test_fifty_six_classes_are_all_told_apart() -> None:
    assert len({(colour_of(code), marker_of(code)(5)) for code in range(56)}) == 56
    assert N_COLOURS * len(MARKERS) == 56


def test_of_sixteen_classes_two_of_one_colour_have_shapes_of_different_area_or_outline() -> None:
    # A disc and a square of a few pixels are the same blot; so are two triangles of one colour.
    names = [one["name"] for one in DEFINED["shapes"]]
    blots = [{"disc", "square"}, {"triangle", "wedge"}, {"plus", "cross"}]
    for code in range(8):
        pair = {names[code % len(names)], names[(code + 8) % len(names)]}
        assert len(pair) == 2 and pair not in blots


def test_shapes_scale() -> None:
    assert MARKERS[0](10.0) == "m-10 0a10 10 0 1 0 20 0a10 10 0 1 0-20 0z"
    # Of another radius the very same path, each length times as long; an arc's flags stay.
    for marker in MARKERS:
        small, large = (re.findall(r"[a-z]|-?[\d.]+", marker(r)) for r in (10.0, 100.0))
        assert len(small) == len(large) and small[0] == "m" and small[-1] == "z"
        sizes = [(float(a), float(b)) for a, b in zip(small, large, strict=True) if not a.isalpha()]
        assert all(b == pytest.approx(10 * a, abs=0.6) or a == b in (0, 1) for a, b in sizes)


def test_codes_are_places_among_the_names() -> None:
    assert class_codes(["lid", None, "can", "lid", "box"]) == {"box": 0, "can": 1, "lid": 2}
    assert class_codes([]) == {}


def test_style_and_page_have_what_is_defined() -> None:
    css = palette_css()
    for i, one in enumerate(DEFINED["colours"]):
        assert f"--c{i}: {one['light']};" in css.split("@media")[0]
        assert f"--c{i}: {one['dark']};" in css.split("@media")[1]
        assert f".q{i} {{ color: var(--c{i}); }}" in css
    assert palette_json() == {"n_colours": 8, "shapes": [one["path"] for one in DEFINED["shapes"]]}
