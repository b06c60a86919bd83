"""Small COCO data sets for the tests of the adapters, made in a temporary folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """An RGB picture in which no two regions are equal."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def annotation(
    image_id: Any = 1, bbox: Any = (2, 3, 10, 8), category_id: Any = 1, **more: Any
) -> dict[str, Any]:
    """One entry of `annotations`, with its box as its outline unless another one is given."""
    fields: dict[str, Any] = {"id": 1, "image_id": image_id, "category_id": category_id, "iscrowd": 0}
    if isinstance(bbox, tuple):
        left, top, width, height = bbox
        right, bottom = left + width, top + height
        fields["segmentation"] = [[left, top, right, top, right, bottom, left, bottom]]
        fields["area"] = width * height
        bbox = list(bbox)
    return {**fields, "bbox": bbox, **more}


def document(annotations: list[Any], images: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    """An annotation file with two categories and, unless others are given, one image `a.png`, 40 x 30 px."""
    return {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}] if images is None else images,
        "annotations": annotations,
        "categories": [
            {"id": 1, "name": "Can", "supercategory": "Metal"},
            {"id": 2, "name": "Bottle", "supercategory": "Plastic"},
        ],
        **more,
    }


def write(root: Path, content: Any) -> Path:
    """Write `annotations.json` under root."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / "annotations.json"
    path.write_text(json.dumps(content))
    return path
