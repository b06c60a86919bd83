"""Whether a picture is blurred, dark, of one colour, tiny or oddly shaped: measured in its pixels, judged among its like.

What is usual depends on the data set, so that a measure must be far from the others' (robust z: distance to the median
over 1.4826 median absolute deviations) *and* past a limit that holds anywhere: neither the darkest of bright pictures
nor what all pictures of a set are is flagged. The figures by which the limits were chosen stand in docs/next.md.

Shape letters: n pictures, h and w sides of one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Fault = Literal["blurred", "dark", "flat", "tiny", "odd-shape"]
FAULTS: tuple[Fault, ...] = ("blurred", "dark", "flat", "tiny", "odd-shape")
# Longer side at which sharpness is measured; smaller pictures stay as they are, for enlarging blurs.
LOOK_PX = 256
# Robust deviations from the median past which a picture stands out. With fewer pictures nothing does.
FAR, FEWEST = 2.5, 10
# The least that a robust deviation counts as, so that sets that are all alike do not flag trifles.
_LEAST = {"sharpness": 0.1, "bright": 8.0, "side": 0.1, "shape": 0.1}
# Natural logarithm; sharp photographs lie above it.
MAX_SHARPNESS = -0.75
# Of 255: even the bright parts of a dark picture are below.
MAX_BRIGHT = 64.0
# Standard deviation of grey, of 255, below which there is nothing to see.
MAX_CONTRAST = 4.0
# Half of the 224 pixels that most backbones look at.
MAX_SIDE_PX = 112
# Of the longer side over the shorter one.
MIN_SHAPE = 2.5
# Below so many pixels there is no telling how sharp.
_LEAST_PX = 16


@dataclass(frozen=True, slots=True)
class Look:
    """What was measured of one picture.

    Attributes:
        sharpness: log of the energy of second over that of first differences, in the direction where it is least;
            None where that says nothing.
        bright: grey, 0 to 255, that 95 % of the pixels do not exceed.
        contrast: standard deviation of grey.
        width_px, height_px: of the whole picture.
    """

    sharpness: float | None
    bright: float
    contrast: float
    width_px: int
    height_px: int


def look(image: Image.Image, size_px: tuple[int, int] | None = None) -> Look:
    """Measure a decoded picture.

    For an edge that a Gaussian of sigma blurs, the energy of the second derivative is 1 / (2 sigma^2) of that of the
    first, so that the ratio tells how wide edges are, whatever their contrast: the variance of the Laplacian alone
    (Pech-Pacheco et al., ICPR 2000) takes faint pictures for blurred ones. It is taken along four directions, for
    movement blurs one alone. A binomial filter goes before it, or the noise of a blurred picture would count as detail.

    Args:
        size_px: (width, height), where the picture was decoded at a reduced size.
    """
    width, height = size_px or image.size
    scale = LOOK_PX / max(image.size)
    if scale < 1:
        sides = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(sides, Image.Resampling.LANCZOS)
    grey = np.asarray(image.convert("L"), np.float32)  # [h, w]
    contrast = float(grey.std())
    is_told = min(grey.shape) >= _LEAST_PX and contrast >= MAX_CONTRAST
    bright = float(np.percentile(grey, 95))
    return Look(_sharpness(grey) if is_told else None, bright, contrast, width, height)


def _sharpness(grey: NDArray[np.float32]) -> float:
    rows = (grey[:-2] + 2 * grey[1:-1] + grey[2:]) / 4
    soft = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4
    middle = soft[1:-1, 1:-1]
    # Neighbours before and after along a row, a column and both diagonals, with their squared distance.
    pairs = (
        (soft[1:-1, :-2], soft[1:-1, 2:], 1),
        (soft[:-2, 1:-1], soft[2:, 1:-1], 1),
        (soft[:-2, :-2], soft[2:, 2:], 2),
        (soft[:-2, 2:], soft[2:, :-2], 2),
    )
    ratios = []
    for before, after, square in pairs:
        first = float(((after - before) ** 2).mean()) / (4 * square)
        second = float(((after - 2 * middle + before) ** 2).mean()) / square**2
        # What eight bits round to, so that smooth pictures do not divide nothing by nothing.
        ratios.append(np.log((second + 0.01) / (first + 0.1)))
    return float(min(ratios))


def faults(looks: Sequence[Look]) -> dict[Fault, list[int]]:
    """Places of the pictures that have each fault, the worst first; a picture may have several."""
    if len(looks) < FEWEST:
        return {fault: [] for fault in FAULTS}
    sharpness = np.array([np.nan if one.sharpness is None else one.sharpness for one in looks])
    bright, contrast = np.array([[one.bright, one.contrast] for one in looks]).T
    sides = np.array([(one.width_px, one.height_px) for one in looks], np.float64)  # [n, 2]
    side, shape = sides.max(axis=1), np.log(sides.max(axis=1) / sides.min(axis=1))
    is_flat = contrast < min(MAX_CONTRAST, np.median(contrast) / 4)
    far = {
        "blurred": (-_deviations(sharpness, "sharpness"), sharpness < MAX_SHARPNESS),
        "dark": (-_deviations(bright, "bright"), bright < MAX_BRIGHT),
        "tiny": (-_deviations(np.log(side), "side"), side < MAX_SIDE_PX),
        "odd-shape": (_deviations(shape, "shape"), shape > np.log(MIN_SHAPE)),
    }
    rows_of: dict[Fault, list[int]] = {}
    for fault, (deviation, is_past) in far.items():
        rows_of[fault] = _worst((deviation > FAR) & is_past, deviation)  # type: ignore[index]
    # Black is dark.
    is_flat[rows_of["dark"]] = False
    rows_of["flat"] = _worst(is_flat, -contrast)
    return {fault: rows_of[fault] for fault in FAULTS}


def _deviations(values: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Robust z [n]; not a number where the value is none."""
    known = values[np.isfinite(values)]
    if len(known) < FEWEST:
        return np.full(len(values), np.nan)
    median = np.median(known)
    spread = 1.4826 * np.median(np.abs(known - median))
    deviations: NDArray[np.float64] = (values - median) / max(spread, _LEAST[name])
    return deviations


def _worst(is_it: NDArray[np.bool_], by: NDArray[np.float64]) -> list[int]:
    rows = np.flatnonzero(is_it)
    order: list[int] = rows[np.argsort(-by[rows], kind="stable")].tolist()
    return order
