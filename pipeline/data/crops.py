"""Cutting one instance out of a decoded photograph: the window, the padding, the background.

Pure functions of pixels and numbers. Coordinates are pixels of the upright photograph, with the
origin at its upper left corner; a window is (left, top, right, bottom), right and bottom excluded.
"""

import math
import operator
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from pycocotools import mask as coco_mask
from pydantic import Field

from deponij.pipeline.record_lists import Record
from deponij.store.errors import DataError

# Neutral grey, near the mean of photographs: for what lies outside the frame or the outline.
FILL_RGB = (128, 128, 128)
# Standard deviation of the blurred background, as a fraction of the crop's longer side.
BLUR_SIGMA = 0.05
MIN_RING_POINTS = 3
# The rasteriser walks outlines pixel by pixel; no photograph is larger.
MAX_COORDINATE_PX = 200_000
# Sums such as 0.1 + 0.2 must not cost another column of pixels.
_ROUNDING_PX = 6

Window = tuple[int, int, int, int]


class Background(StrEnum):
    """What is done with the pixels of a crop that lie outside the instance's outline."""

    KEEP = "keep"
    BLANK = "blank"
    BLUR = "blur"


class CropParams(Record):
    """How crops are cut. The default is the tight box, clipped to the frame.

    Attributes:
        margin: added on each of the four sides, as a fraction of the box's longer side.
        square: the shorter side of the window grows to the longer; where the photograph ends, the
            window moves inwards, and what even then lies outside is filled with neutral grey.
        min_size_px: each side of the window grows to at least this, as far as the photograph reaches.
        background: keep it, blank it with neutral grey, or blur it, by the instance's outline.
        keep_crowds: cut regions that mark many instances (`iscrowd`) like any other, instead of
            recording them as failures.
    """

    margin: float = Field(default=0.0, ge=0.0, le=10.0, allow_inf_nan=False)
    square: bool = False
    min_size_px: int = Field(default=0, ge=0, le=10_000)
    background: Background = Background.KEEP
    keep_crowds: bool = False


def crop_window(
    box_xywh_px: tuple[float, float, float, float], frame_px: tuple[int, int], params: CropParams
) -> Window:
    """The window of a box: left and top rounded down, right and bottom up, clipped to the frame.

    Margin comes first, then the clipping, then minimum size and square, which keep the window's centre
    (half a pixel right and down where it cannot be kept) and move it inwards at the frame's edge. Only a
    square window may reach past the frame, centred, where the frame is too small to hold it.

    Args:
        box_xywh_px: left, top, width, height.
        frame_px: (width, height) of the photograph.

    Raises:
        DataError: no part of the box lies in the frame.
    """
    left, top, width, height = box_xywh_px
    margin_px = params.margin * max(width, height)
    frame_width, frame_height = frame_px
    tight = _clipped(left, left + width, 0.0, frame_width) + _clipped(top, top + height, 0.0, frame_height)
    if tight[0] >= tight[1] or tight[2] >= tight[3]:
        raise DataError(
            f"the box [{left:g}, {top:g}, {width:g}, {height:g}] lies outside the photograph of "
            f"{frame_width} x {frame_height} px"
        )
    x0, x1 = _clipped(left, left + width, margin_px, frame_width)
    y0, y1 = _clipped(top, top + height, margin_px, frame_height)
    goal_width, goal_height = max(x1 - x0, params.min_size_px), max(y1 - y0, params.min_size_px)
    if params.square:
        goal_width = goal_height = max(min(goal_width, frame_width), min(goal_height, frame_height))
    x0, x1 = _grown(x0, x1, goal_width, frame_width, may_pad=params.square)
    y0, y1 = _grown(y0, y1, goal_height, frame_height, may_pad=params.square)
    return x0, y0, x1, y1


def cut(image: Image.Image, window: Window) -> Image.Image:
    """The window's pixels; what lies outside the photograph is `FILL_RGB`."""
    left, top, right, bottom = window
    inner = (max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height))
    if inner == window:
        return image.crop(window)
    canvas = Image.new("RGB", (right - left, bottom - top), FILL_RGB)
    canvas.paste(image.crop(inner), (inner[0] - left, inner[1] - top))
    return canvas


def with_background(crop: Image.Image, mask: NDArray[np.bool_], background: Background) -> Image.Image:
    """The crop with all pixels outside `mask` blanked or blurred.

    Args:
        crop: RGB.
        mask: [height, width] of the crop, true on the instance.
    """
    if background is Background.KEEP:
        return crop
    if background is Background.BLANK:
        other = Image.new("RGB", crop.size, FILL_RGB)
    else:
        other = crop.filter(ImageFilter.GaussianBlur(BLUR_SIGMA * max(crop.size)))
    return Image.composite(crop, other, Image.fromarray(mask))


def window_mask(segmentation: object, window: Window, frame_px: tuple[int, int]) -> NDArray[np.bool_]:
    """As `outline_mask`, of an instance that must be seen in the window.

    Raises:
        DataError: there is no outline, it is malformed, or it covers no pixel of the window.
    """
    if segmentation is None or segmentation == []:
        raise DataError("the annotation has no segmentation, which a blanked or blurred background needs")
    mask = outline_mask(segmentation, window, frame_px)
    if not mask.any():
        raise DataError("the annotation's segmentation covers no pixel of its crop")
    return mask


def outline_mask(segmentation: object, window: Window, frame_px: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels of a window that lie within an outline, [bottom - top, right - left].

    Polygons are filled as pycocotools does it (several are united); run lengths, compressed or not,
    must have the photograph's size.

    Raises:
        DataError: the outline is malformed.
    """
    try:
        if isinstance(segmentation, dict):
            return _run_length_mask(segmentation, window, frame_px)
        return _polygon_mask(segmentation, window)
    except (TypeError, ValueError, KeyError, IndexError, OverflowError) as error:
        raise DataError(f"the annotation's segmentation is malformed: {error}") from error


def _polygon_mask(segmentation: Any, window: Window) -> NDArray[np.bool_]:
    left, top, right, bottom = window
    rings = [ring for ring in map(_ring, segmentation) if len(ring) >= MIN_RING_POINTS]
    if not rings:
        return np.zeros((bottom - top, right - left), dtype=bool)
    # The outline is drawn from its own corner on: the rasteriser rounds negative coordinates differently.
    corner = np.minimum(np.floor(np.concatenate(rings).min(axis=0)), (left, top)).astype(int)
    height, width = bottom - int(corner[1]), right - int(corner[0])
    outlines = coco_mask.frPyObjects([(ring - corner).ravel().tolist() for ring in rings], height, width)
    mask = _unrolled(_decompressed(coco_mask.merge(outlines)["counts"]), height, width)
    return mask[top - corner[1] :, left - corner[0] :]


def _ring(values: Any) -> NDArray[np.float64]:
    """One polygon's points, [n, 2]."""
    points = np.asarray(values, dtype=np.float64)
    if points.ndim != 1 or points.size % 2 or not np.isfinite(points).all():
        raise ValueError("a polygon must be a list of finite numbers x0, y0, x1, y1, ...")
    if np.abs(points).max(initial=0) > MAX_COORDINATE_PX:
        raise ValueError(f"a polygon reaches further than {MAX_COORDINATE_PX:,} px")
    return points.reshape(-1, 2)


def _run_length_mask(segmentation: Any, window: Window, frame_px: tuple[int, int]) -> NDArray[np.bool_]:
    height, width = segmentation["size"]
    if (width, height) != frame_px:
        raise ValueError(
            f"its run lengths are for {width} x {height} px, not for {frame_px[0]} x {frame_px[1]} px"
        )
    counts = segmentation["counts"]
    runs = (
        _decompressed(counts) if isinstance(counts, str | bytes) else [operator.index(run) for run in counts]
    )
    if min(runs, default=0) < 0 or sum(runs) != height * width:
        raise ValueError(f"its run lengths do not add up to {width} x {height} px")
    full = _unrolled(runs, height, width)
    left, top, right, bottom = window
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    mask = np.zeros((bottom - top, right - left), dtype=bool)
    mask[y0 - top : y1 - top, x0 - left : x1 - left] = full[y0:y1, x0:x1]
    return mask


def _unrolled(runs: list[int], height: int, width: int) -> NDArray[np.bool_]:
    """The mask, [height, width], of runs that alternate between 0 and 1 down the columns."""
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def _decompressed(counts: str | bytes) -> list[int]:
    """Run lengths of COCO's compressed text: `rleFrString` of cocoapi's maskApi.c.

    pycocotools' own decoder gives pixels of uninitialised memory where run lengths are damaged.
    """
    codes = counts.encode("ascii") if isinstance(counts, str) else counts
    runs: list[int] = []
    value, shift = 0, 0
    for code in codes:
        digit = code - 48
        if not 0 <= digit < 64 or shift > 60:
            raise ValueError("its compressed run lengths hold characters that do not belong there")
        value |= (digit & 0x1F) << shift
        shift += 5
        if digit & 0x20:
            continue
        if digit & 0x10:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value, shift = 0, 0
    if shift:
        raise ValueError("its compressed run lengths end in the middle of a number")
    return runs


def _clipped(low: float, high: float, margin_px: float, frame_px: int) -> tuple[int, int]:
    """The side from low to high, widened by the margin, rounded outwards and clipped to the frame."""
    start = max(math.floor(round(low - margin_px, _ROUNDING_PX)), 0)
    return start, min(math.ceil(round(high + margin_px, _ROUNDING_PX)), frame_px)


def _grown(start: int, stop: int, goal_px: int, frame_px: int, *, may_pad: bool) -> tuple[int, int]:
    """The side grown around its centre to `goal_px`, inside the frame as far as that holds it."""
    if goal_px <= stop - start:
        return start, stop
    if goal_px > frame_px:
        if not may_pad:
            return 0, frame_px
        start = -((goal_px - frame_px) // 2)
        return start, start + goal_px
    start -= (goal_px - (stop - start)) // 2
    start = min(max(start, 0), frame_px - goal_px)
    return start, start + goal_px
