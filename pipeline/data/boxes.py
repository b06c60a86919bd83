"""The forms that boxes are written in, and which of them a whole file of boxes is likely to have.

COCO's is [left, top, width, height] in pixels. Other tools write corners, centres, or shares of the picture's sides
under the same name; read as COCO's they would cut something else without a word. One odd box is that annotation's
own matter and says nothing here.

Shape letters: n boxes.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Box = tuple[float, float, float, float]

# Boxes past the frame, off their outlines or of another area that no slips of the hand explain. Corners read as
# sizes leave the frame with most boxes, centres read as corners only with those near its right and lower side.
_MIN_ODD, _MIN_ODD_SHARE = 4, {"xyxy": 0.4, "cxcywh": 0.02}
# With so many boxes wholly outside a file is of no known form: thousandths, say, or pixels of larger pictures.
_MIN_OUTSIDE_SHARE = 0.05
# Another form must explain (nearly) all boxes, and be exact where COCO's may be off by as much as people draw.
_MIN_FIT = 0.995
_SLACK_PX, _SLACK_SHARE = 2.0, 0.01


class Boxes(StrEnum):
    """How the four numbers of a box are meant: in pixels, or (`-normalised`) as shares of the picture's sides."""

    XYWH = "xywh"
    XYXY = "xyxy"
    CXCYWH = "cxcywh"
    XYWH_NORMALISED = "xywh-normalised"
    XYXY_NORMALISED = "xyxy-normalised"
    CXCYWH_NORMALISED = "cxcywh-normalised"

    @property
    def is_normalised(self) -> bool:
        """Whether the numbers are shares."""
        return self.endswith("-normalised")

    @property
    def told(self) -> str:
        """In words."""
        names = {
            "xywh": "[left, top, width, height]",
            "xyxy": "corners [left, top, right, bottom]",
            "cxcywh": "[centre x, centre y, width, height]",
        }
        return names[self.removesuffix("-normalised")] + (
            " as shares of the sides" if self.is_normalised else ""
        )


_IN_PIXELS = (Boxes.XYWH, Boxes.XYXY, Boxes.CXCYWH)


def to_xywh_px(box: Box, form: Boxes, size_px: tuple[int, int] | None) -> Box:
    """A box as left, top, width, height in pixels.

    Args:
        size_px: (width, height) of the photograph; only shares need it.

    Raises:
        ValueError: shares, and no size.
    """
    if form is Boxes.XYWH:
        return box
    scale = np.ones(2)
    if form.is_normalised:
        if size_px is None:
            raise ValueError("boxes that are shares of the sides need the photograph's width and height")
        scale = np.asarray(size_px, np.float64)
    left, top, right, bottom = (_corners(np.asarray([box]), form) * np.tile(scale, 2))[0].tolist()
    return left, top, right - left, bottom - top


@dataclass(frozen=True, slots=True)
class Doubt:
    """What speaks against COCO's own form, and the others that explain a file's boxes, the likeliest first; maybe none."""

    forms: tuple[Boxes, ...]
    reason: str


def doubt(boxes: Floats, sizes_px: Floats, areas: Floats, extents: Floats) -> Doubt | None:
    """What speaks against reading a file's boxes as COCO's own; None where nothing does.

    Args:
        boxes: [n, 4] as written, finite.
        sizes_px: [n, 2] width and height of each one's photograph; NaN where the file states none.
        areas: [n] as the file states them; NaN for none.
        extents: [n, 4] left, top, right, bottom of each one's polygons, px; NaN for none.
    """
    if _are_shares(boxes, sizes_px):
        return Doubt(
            _forms_of_shares(boxes, extents), f"all numbers of {len(boxes):,} boxes lie between 0 and 1"
        )
    slack_px = _SLACK_PX + _SLACK_SHARE * np.nan_to_num(sizes_px).max(axis=1)  # [n]
    misfits = ~_fits(boxes, Boxes.XYWH, sizes_px, slack_px) | ~_matches(boxes, Boxes.XYWH, extents, slack_px)
    other_area = _has_area(boxes, Boxes.XYXY, areas) & ~_has_area(boxes, Boxes.XYWH, areas)  # [n]
    for form, odd in ((Boxes.XYXY, misfits | other_area), (Boxes.CXCYWH, misfits)):
        if odd.sum() < max(_MIN_ODD, _MIN_ODD_SHARE[form] * len(boxes)):
            continue
        explained = _fits(boxes, form, sizes_px, 1.0) & _matches(boxes, form, extents, slack_px)
        left, top, right, bottom = _corners(boxes, form).T
        # The area of an outline is never larger than its box.
        explained &= np.isnan(areas) | (areas <= 1.05 * (right - left + 1) * (bottom - top + 1))
        if explained.mean() >= _MIN_FIT:
            reason = "reach past the frame, miss their outline or have another area"
            return Doubt((form,), f"{odd.sum():,} of {len(boxes):,} boxes {reason}")
    outside = (boxes[:, :2] >= sizes_px).any(axis=1)  # [n]; never where no size is stated
    if outside.sum() >= max(_MIN_ODD, _MIN_OUTSIDE_SHARE * len(boxes)):
        return Doubt((), f"{outside.sum():,} of {len(boxes):,} boxes lie outside the frame")
    return None


def _are_shares(boxes: Floats, sizes_px: Floats) -> bool:
    """Whether (nearly) all numbers lie between 0 and 1, which in pixels would be one corner of each picture."""
    real = boxes[(boxes[:, 2:] > 0).all(axis=1)]
    within = ((real >= -0.01) & (real <= 1.01)).all(axis=1)
    is_tiny = (np.nan_to_num(sizes_px, nan=np.inf) <= 2).any()
    return bool(len(real) and within.mean() >= _MIN_FIT and not is_tiny)


def _forms_of_shares(boxes: Floats, extents: Floats) -> tuple[Boxes, ...]:
    """Those that explain as many as any; outlines are of help where they are shares as well."""
    outlines = np.where((extents <= 1.01).all(axis=1, keepdims=True), extents, np.nan)
    frames = np.ones_like(boxes[:, :2])
    fits = {
        form: float((_fits(boxes, form, frames, 0.01) & _matches(boxes, form, outlines, 0.01)).mean())
        for form in _IN_PIXELS
    }
    best = max(fits.values())
    return tuple(Boxes(f"{form}-normalised") for form, share in fits.items() if share >= best - 0.001)


def _corners(boxes: Floats, form: Boxes) -> Floats:
    """Left, top, right, bottom of each box, [n, 4]."""
    first, second = boxes[:, :2], boxes[:, 2:]
    kind = form.removesuffix("-normalised")
    if kind == Boxes.XYXY:
        return boxes
    start = first if kind == Boxes.XYWH else first - second / 2
    return np.hstack([start, start + second])


def _fits(boxes: Floats, form: Boxes, sizes: Floats, slack: Floats | float) -> NDArray[np.bool_]:
    """Whether each box has an area and lies in its frame, [n]; a frame of unknown size has no right and lower end."""
    left, top, right, bottom = _corners(boxes, form).T
    width, height = np.where(np.isnan(sizes), np.inf, sizes).T
    inside = (left >= -slack) & (top >= -slack) & (right <= width + slack) & (bottom <= height + slack)
    fits: NDArray[np.bool_] = inside & (right > left) & (bottom > top)
    return fits


def _matches(boxes: Floats, form: Boxes, extents: Floats, slack: Floats | float) -> NDArray[np.bool_]:
    """Whether each box is that of its outline, [n]; true where there is none."""
    apart = np.abs(_corners(boxes, form) - extents).max(axis=1)
    matches: NDArray[np.bool_] = np.isnan(apart) | (apart <= slack)
    return matches


def _has_area(boxes: Floats, form: Boxes, areas: Floats) -> NDArray[np.bool_]:
    """Whether the stated area is width times height, [n]."""
    left, top, right, bottom = _corners(boxes, form).T
    # Of boxes that somebody made up the area is infinite, which is that of none.
    with np.errstate(over="ignore", invalid="ignore"):
        has_area: NDArray[np.bool_] = np.isclose((right - left) * (bottom - top), areas, rtol=0.01) & (
            areas > 0
        )
    return has_area
