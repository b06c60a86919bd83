"""Whether the boxes of a COCO file are what they are said to be, looked at as a whole.

The judgement lives in `deponij.pipeline.data.boxes`; here a file's annotations become its arrays.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deponij.pipeline.data.boxes import Boxes, doubt
from deponij.store.errors import DataError

# Evenly spaced ones tell as much as hundreds of thousands.
_MAX_LOOKED_AT = 20_000
_NOTHING = (math.nan,) * 4


def refuse_doubtful(
    path: Path, annotations: Sequence[Any], sizes_px: Mapping[Any, tuple[int, int] | None]
) -> None:
    """Refuse a file whose boxes as a whole are likely to be written in another form than COCO's.

    Args:
        annotations: as the file has them; what is no box is another's matter.
        sizes_px: (width, height) of each image, by its id; None where the file states none.

    Raises:
        DataError: naming the likely form and what to pass.
    """
    step = max(1, len(annotations) // _MAX_LOOKED_AT)
    rows = []
    for one in annotations[::step]:
        box = _numbers(one.get("bbox"), 4) if isinstance(one, dict) else None
        if box is None:
            continue
        image_id = one.get("image_id")
        size = (sizes_px.get(image_id) if isinstance(image_id, int | float | str) else None) or _NOTHING[:2]
        area = _numbers([one.get("area")], 1) or _NOTHING[:1]
        rows.append((*box, *size, *area, *_extent(one.get("segmentation"))))
    if not rows:
        return
    table = np.asarray(rows, np.float64)
    doubtful = doubt(table[:, :4], table[:, 4:6], table[:, 6], table[:, 7:])
    if doubtful is not None:
        likely = "They fit no form that is known here, so write them anew as that"
        if doubtful.forms:
            looks = " or ".join(form.told for form in doubtful.forms)
            flags = " or ".join(f"--boxes {form}" for form in doubtful.forms)
            likely = (
                f"They look like {looks}: {flags} reads them so (`boxes: {doubtful.forms[0]}` in a profile)"
            )
        raise DataError(
            f"annotation file {path}: its boxes cannot all be meant as COCO's {Boxes.XYWH.told} in pixels: "
            f"{doubtful.reason}. {likely}; --boxes {Boxes.XYWH} takes them as COCO's all the same"
        )


def _numbers(values: Any, n: int) -> tuple[float, ...] | None:
    """So many finite numbers, or None."""
    if (
        not isinstance(values, list)
        or len(values) != n
        or not all(type(one) in (int, float) for one in values)
    ):
        return None
    try:
        numbers = tuple(map(float, values))
    except OverflowError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def _extent(segmentation: Any) -> tuple[float, ...]:
    """Left, top, right, bottom of polygons; NaN for run lengths and what is malformed."""
    if not isinstance(segmentation, list) or not segmentation:
        return _NOTHING
    rings = [
        _numbers(ring, len(ring)) if isinstance(ring, list) and len(ring) >= 6 else None
        for ring in segmentation
    ]
    points = [number for ring in rings if ring is not None for number in ring]
    if None in rings or any(len(ring) % 2 for ring in rings if ring is not None):
        return _NOTHING
    across, down = points[::2], points[1::2]
    return min(across), min(down), max(across), max(down)
